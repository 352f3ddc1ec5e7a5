"""The heartbeat of a training process: it renews the sessions of its runs, checks the budget, and ends a process that hangs."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from testbed.errors import TestbedError
from testbed.training.executors.budget_guard import BudgetGuard
from testbed.training.store import Claim, Superseded
from testbed.training.store.session import RENEWALS

_INTERVAL = 5.0  # seconds between renewals, at most
HUNG = 70  # exit status of a process that ended itself because its training made no progress

_log = logging.getLogger("testbed")


class Heartbeat:
    """A thread that renews the sessions of a pack's runs for as long as the training makes progress."""

    def __init__(self, claims: Sequence[Claim], lease_seconds: float, hang_seconds: float, budget: BudgetGuard) -> None:
        self._claims, self._hang_seconds = claims, hang_seconds
        self._interval = min(lease_seconds / RENEWALS, _INTERVAL)
        self.budget = budget
        self._started = self._alive = time.monotonic()
        self._first: int | None = None
        self._begun: float | None = None
        self._reached = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_all, daemon=True)

    def beat(self, reached: int | None = None) -> None:
        """Called after every training event: the process is alive, and each run stands at optimiser step `reached`."""
        self._alive = time.monotonic()
        if reached is not None:
            if self._first is None:
                self._first, self._begun = reached, self._alive
            self._reached = reached

    def check(self) -> None:
        """Superseded if another process now owns one of the runs, DiskError if their folder has vanished."""
        for claim in self._claims:
            claim.check()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Renew the sessions while the block runs, and release them at its end."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            for claim in self._claims:
                # on a full disk the release cannot be written; the file lock then shows that the session is over
                with contextlib.suppress(Superseded, TestbedError):
                    self._renew(claim)
                    claim.release()

    def _renew_all(self) -> None:
        while not self._stop.wait(self._interval):
            silent = time.monotonic() - self._alive
            if silent > self._hang_seconds:
                self._end(silent)
            for claim in self._claims:
                with contextlib.suppress(Superseded, TestbedError):  # the training meets the same error when it writes
                    self._renew(claim)
            with contextlib.suppress(TestbedError, OSError):  # likewise where the disk is gone
                self.budget.refresh()

    def _renew(self, claim: Claim) -> None:
        first = self._reached if self._first is None else self._first
        now, share = time.monotonic(), len(self._claims)
        setup = (now if self._begun is None else self._begun) - self._started
        claim.renew(self._reached - first, self._reached, (now - self._started) / share, setup / share)

    def _end(self, silent: float) -> None:
        _log.error(
            "no progress for %.0f seconds: this process hangs, so it ends itself; its runs are tried again", silent
        )
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        sys.stderr.flush()
        os._exit(HUNG)
