"""Training runs, one or several of a shape side by side; see `loop.train`."""

from testbed.training.train.calibration import Measured, measure
from testbed.training.train.device.cuda_graphs import compiling_pays
from testbed.training.train.device.selection import choose_device
from testbed.training.train.events import Diverged, Event, Finished, Interruptions, Logged, Paused, Progress, Warned
from testbed.training.train.loop import train
from testbed.training.train.memory.footprint import Memory, available_bytes, estimate
from testbed.training.train.memory.passes import Choice, choose_passes

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
