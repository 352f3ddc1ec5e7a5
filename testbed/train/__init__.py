"""Training one run; see `loop.train`."""

from testbed.train.calibration import Pace, measure_pace
from testbed.train.device import choose_device
from testbed.train.loop import Finished, Interruptions, Paused, Progress, train

__all__ = ["Finished", "Interruptions", "Pace", "Paused", "Progress", "choose_device", "measure_pace", "train"]
