"""The record of a sweep on disk: folders, locks, atomic writes, and the points table made of them."""

from testbed.store.run import RunFolder, State, now
from testbed.store.sweep import SweepFolder

__all__ = ["RunFolder", "State", "SweepFolder", "now"]
