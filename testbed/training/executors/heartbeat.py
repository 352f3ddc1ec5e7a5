"""The heart of a process that trains: it renews the sessions of its runs, minds the budget, and ends a process that hangs."""

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
from testbed.training.executors.budget_guard import Purse
from testbed.training.store import Claim, Superseded
from testbed.training.store.session import BEATS

_INTERVAL = 5.0  # seconds between beats, at most
HUNG = 70  # exit status of a process that ended itself because it did not go on

_log = logging.getLogger("testbed")


class Heart:
    """Beats in a thread of its own as long as the training goes on; says what the sessions have done so far."""

    def __init__(self, claims: Sequence[Claim], lease_seconds: float, hang_seconds: float, purse: Purse) -> None:
        self._claims, self._hang_seconds = claims, hang_seconds
        self._interval = min(lease_seconds / BEATS, _INTERVAL)
        self.purse = purse
        self._started = self._alive = time.monotonic()
        self._first: int | None = None
        self._begun: float | None = None
        self._reached = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def went_on(self, reached: int | None = None) -> None:
        """The training lives; `reached` are the optimiser steps that each run stands at, of spec.steps."""
        self._alive = time.monotonic()
        if reached is not None:
            if self._first is None:
                self._first, self._begun = reached, self._alive
            self._reached = reached

    def check(self) -> None:
        """Superseded if another process owns one of the runs by now, DiskError if their folder has vanished."""
        for claim in self._claims:
            claim.check()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Beat while the block runs; at its end the sessions are given back."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            for claim in self._claims:
                # on a full disk the session's end is told by its lock
                with contextlib.suppress(Superseded, TestbedError):
                    self._renew(claim)
                    claim.release()

    def _beat(self) -> None:
        while not self._stop.wait(self._interval):
            silent = time.monotonic() - self._alive
            if silent > self._hang_seconds:
                self._end(silent)
            for claim in self._claims:
                with contextlib.suppress(Superseded, TestbedError):  # the training finds it where it writes
                    self._renew(claim)
            with contextlib.suppress(TestbedError, OSError):  # a disk that is gone: likewise
                self.purse.look()

    def _renew(self, claim: Claim) -> None:
        first = self._reached if self._first is None else self._first
        now, share = time.monotonic(), len(self._claims)
        setup = (now if self._begun is None else self._begun) - self._started
        claim.renew(self._reached - first, self._reached, (now - self._started) / share, setup / share)

    def _end(self, silent: float) -> None:
        _log.error("no step for %.0f seconds: this process hangs and is ended; its runs are tried again", silent)
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        sys.stderr.flush()
        os._exit(HUNG)
