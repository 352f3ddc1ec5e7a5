"""The purse of a process that trains: it stops what costs more than was reckoned, when the budget is spent."""

from __future__ import annotations

import time

from testbed.training.store import SweepFolder
from testbed.training.store.ledger import Ledger
from testbed.training.store.spending import excess

_LOOKS = 20  # a look at the ledger takes at most one in so many parts of the time


class Purse:
    """Looks now and then whether the sweep, all its runs together, has spent more than its budget."""

    def __init__(self, sweep: SweepFolder) -> None:
        self._sweep = sweep
        self._next = 0.0
        self.empty = False

    def look(self) -> None:
        """Reckon the sessions of all runs, unless that was done a moment ago."""
        budget, started = self._sweep.config.budget, time.monotonic()
        if budget is None or started < self._next:
            return
        self.empty = excess(Ledger.of(self._sweep).spent, budget)
        self._next = time.monotonic() + _LOOKS * (time.monotonic() - started)
