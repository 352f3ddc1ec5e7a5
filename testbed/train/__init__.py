"""Training runs, one or several of a shape side by side; see `loop.train`."""

from testbed.train.calibration import Measured, measure
from testbed.train.cuda import compiling_pays
from testbed.train.device import choose_device
from testbed.train.events import Diverged, Event, Finished, Interruptions, Logged, Paused, Progress, Warned
from testbed.train.loop import train
from testbed.train.memory import Memory, available_bytes, estimate
from testbed.train.passes import Choice, choose_passes

__all__ = [
    "Choice",
    "Diverged",
    "Event",
    "Finished",
    "Interruptions",
    "Logged",
    "Measured",
    "Memory",
    "Paused",
    "Progress",
    "Warned",
    "available_bytes",
    "choose_device",
    "choose_passes",
    "compiling_pays",
    "estimate",
    "measure",
    "train",
]
