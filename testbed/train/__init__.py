"""Training runs, one or several of a shape side by side; see `loop.train`."""

from testbed.train.calibration import Pace, measure_paces
from testbed.train.device import choose_device
from testbed.train.loop import Diverged, Event, Finished, Interruptions, Logged, Paused, Progress, train

__all__ = [
    "Diverged",
    "Event",
    "Finished",
    "Interruptions",
    "Logged",
    "Pace",
    "Paused",
    "Progress",
    "choose_device",
    "measure_paces",
    "train",
]
