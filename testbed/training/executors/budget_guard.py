"""Stops a worker once the sweep as a whole has spent its budget."""

from __future__ import annotations

import time

from testbed.training.store import SweepFolder
from testbed.training.store.ledger import Ledger
from testbed.training.store.spending import excess

_PAUSE = 20  # between two readings of the ledger pass at least so many times the seconds that the first one took


class BudgetGuard:
    """Checks from time to time whether the sweep, all of its runs together, has spent more than its budget."""

    def __init__(self, sweep: SweepFolder) -> None:
        self._sweep = sweep
        self._next = 0.0
        self.exhausted = False

    def refresh(self) -> None:
        """Add up the sessions of all runs, unless that was done a moment ago."""
        started = time.monotonic()
        if started < self._next:
            return
        budget = self._sweep.budget()
        self.exhausted = budget is not None and excess(Ledger.of(self._sweep).spent, budget)
        self._next = time.monotonic() + _PAUSE * (time.monotonic() - started)
