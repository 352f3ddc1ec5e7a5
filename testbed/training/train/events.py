"""What training tells while it goes on, and what may interrupt it."""

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
    """Run `run` of the pack has lost its way (see `divergence`); the others go on."""

    run: int
    reason: str


@dataclass(frozen=True)
class Warned:
    """Something went wrong and was mended: a checkpoint that was no good, a pass that did not fit."""

    message: str


@dataclass(frozen=True)
class Progress:
    """Optimiser steps that each run has done so far, of spec.steps."""

    steps: int


@dataclass(frozen=True)
class Finished:
    """What each run that did not diverge really did: optimiser steps, training tokens, its share of the seconds."""

    steps: int
    tokens: int
    seconds: float


Event = Logged | Diverged | Warned | Progress | Finished


@dataclass(frozen=True)
class Interruptions:
    """What may interrupt a run: a request to stop, the clock that asks for a checkpoint, a loss of its ownership.

    `check` is called before anything is written, and raises where this process may not.
    """

    stop: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = math.inf
    check: Callable[[], None] = lambda: None
