"""A sweep's record on disk: folders, locks, atomic writes, and the points table made from them."""

from testbed.training.store.run_folder import RunFolder, State
from testbed.training.store.session import Claim, Held, OwnerMonitor, Session, Superseded, now
from testbed.training.store.sweep_folder import SweepFolder

__all__ = ["Claim", "Held", "OwnerMonitor", "RunFolder", "Session", "State", "Superseded", "SweepFolder", "now"]
