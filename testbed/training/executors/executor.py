"""What an executor is, whom it tells, and how often it tries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, Self

from testbed.config import Execution
from testbed.records import Eval, RunSpec
from testbed.training.executors.training_run import Outcome
from testbed.training.store import SweepFolder
from testbed.training.sweep import Pack

ATTEMPTS = 3  # times a pack is given to a process that then dies, without coming further than before
LOG_TAIL = 4000  # characters of a process's log that are kept with a failure


class Watcher(Protocol):
    """Told of everything that happens, for a progress display."""

    def started(self, spec: RunSpec) -> None:
        """A worker has taken the run."""
        ...

    def progress(self, spec: RunSpec, steps: int) -> None:
        """The run has done so many optimiser steps of spec.steps."""
        ...

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """The run has logged a loss."""
        ...

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """The run has ended."""
        ...


class Executor(Protocol):
    """Trains packs somewhere, each by `run.run_pack` in the sweep's folder, and starts no pack twice at a time."""

    @classmethod
    def configured(cls, execution: Execution) -> Self:
        """The executor of these settings; ConfigError where it lacks what it needs."""
        ...

    def run(self, sweep: SweepFolder, packs: Sequence[Pack], watcher: Watcher) -> list[Outcome]:
        """Train every pack to its end; outcomes of their runs in the order they ended, "held" where another launch has them.

        A run whose process dies is tried again from its checkpoint, and fails after ATTEMPTS deaths at
        one place. On KeyboardInterrupt every process writes a checkpoint and leaves, then it is raised again.
        """
        ...

    def adopts(self, sweep: SweepFolder, packs: Sequence[Pack]) -> list[Pack]:
        """The packs that an earlier launch, which is no more, left to processes of its own: `run` looks after them."""
        ...


class Attempts:
    """How often each pack was given to a process that died without bringing it further than it had been."""

    def __init__(self) -> None:
        self._made: Counter[str] = Counter()
        self._furthest: Counter[str] = Counter()

    def started(self, pack: Pack) -> None:
        """A process has taken the pack."""
        self._made[pack[0].run_id] += 1

    def withdrawn(self, pack: Pack) -> None:
        """The process died before it took the pack up: that says nothing of the pack."""
        self._made[pack[0].run_id] -= 1

    def reached(self, pack: Pack, steps: int) -> None:
        """The pack stands at `steps`; if that is further than ever, what was before no longer counts."""
        if steps > self._furthest[pack[0].run_id]:
            self._furthest[pack[0].run_id] = steps
            self._made[pack[0].run_id] = 1

    def left(self, pack: Pack) -> bool:
        """Whether it may be tried again."""
        return self._made[pack[0].run_id] < ATTEMPTS
