"""The record of a sweep on disk: folders, locks, atomic writes, and the points table made of them."""

from testbed.training.store.run_folder import RunFolder, State
from testbed.training.store.session import Claim, Held, Lookout, Session, Superseded, now
from testbed.training.store.sweep_folder import SweepFolder

__all__ = ["Claim", "Held", "Lookout", "RunFolder", "Session", "State", "Superseded", "SweepFolder", "now"]
