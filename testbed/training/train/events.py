"""Events of training, and what may interrupt it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from testbed.records import Eval


class Paused(Exception):
    """The runs were asked to stop; their checkpoint is written."""


@dataclass(frozen=True)
class Logged:
    """An evaluation of run `run` of the pack (from 0)."""

    run: int
    evaluation: Eval


@dataclass(frozen=True)
class Diverged:
    """Run `run` of the pack has diverged (see `divergence`); the others continue."""

    run: int
    reason: str


@dataclass(frozen=True)
class Warned:
    """Something went wrong and was handled: a damaged checkpoint, a pass that did not fit in memory."""

    message: str


@dataclass(frozen=True)
class Progress:
    """Optimiser steps that each run has done so far, of spec.steps."""

    steps: int


@dataclass(frozen=True)
class Finished:
    """The runs that did not diverge are done: optimiser steps, training tokens and share of the seconds of each."""

    steps: int
    tokens: int
    seconds: float


Event = Logged | Diverged | Warned | Progress | Finished


@dataclass(frozen=True)
class Interruptions:
    """What may interrupt a run: a request to stop, the interval between checkpoints, the loss of its ownership.

    `check` is called before anything is written; it raises if this process does not own the run any more.
    """

    stop: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = math.inf
    check: Callable[[], None] = lambda: None
