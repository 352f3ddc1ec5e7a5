"""The record of a sweep on disk: folders, locks, atomic writes, and the points table made of them."""

from testbed.store.run import RunFolder, State
from testbed.store.session import Claim, Held, Lookout, Session, Superseded, now
from testbed.store.sweep import SweepFolder

__all__ = ["Claim", "Held", "Lookout", "RunFolder", "Session", "State", "Superseded", "SweepFolder", "now"]
