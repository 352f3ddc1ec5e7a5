"""The protocols of executors and of their watchers, and how often a pack is tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, Self

from testbed.config import Execution
from testbed.records import Eval, RunSpec
from testbed.training.executors.training_run import Outcome
from testbed.training.store import SweepFolder
from testbed.training.sweep import Pack

ATTEMPTS = 3  # times that a pack is given to a process that dies without bringing it further than before
_LOG_TAIL = 4000  # characters of a process's log that are kept with a failure


class Watcher(Protocol):
    """Receives every training event; implemented by progress displays and trackers."""

    def started(self, spec: RunSpec) -> None:
        """A worker has taken the run."""
        ...

    def progress(self, spec: RunSpec, steps: int) -> None:
        """The run stands at optimiser step `steps`, of spec.steps."""
        ...

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """The run has logged a loss."""
        ...

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """The run has ended."""
        ...


class Executor(Protocol):
    """Trains packs on some machines, each with `training_run.run_pack`, and never the same pack twice at a time."""

    @classmethod
    def configured(cls, execution: Execution) -> Self:
        """The executor of these settings; ConfigError where something that it needs is missing."""
        ...

    def run(self, sweep: SweepFolder, packs: Sequence[Pack], watcher: Watcher) -> list[Outcome]:
        """Train every pack to its end; the outcomes of their runs in the order they ended, "held" where another launch has them.

        A pack whose process dies is resumed from its checkpoint; after ATTEMPTS deaths without progress its
        runs fail. On KeyboardInterrupt every process writes a checkpoint and leaves, then it is raised again.
        """
        ...

    def adopts(self, sweep: SweepFolder, packs: Sequence[Pack]) -> list[Pack]:
        """The packs that processes of an earlier, dead launch still train; `run` takes them over."""
        ...


def fail_pack(sweep: SweepFolder, pack: Pack, reason: str, log: str) -> list[Outcome]:
    """Fail the runs of a pack that are not done, and keep the end of the log with them."""
    unfinished = [folder for folder in map(sweep.run, pack) if folder.done() is None]
    for folder in unfinished:
        folder.fail(reason, log[-_LOG_TAIL:])
    return [Outcome(folder.spec.run_id, "failed", reason) for folder in unfinished]


class Attempts:
    """Counts how often each pack was given to a process since it last made progress."""

    def __init__(self) -> None:
        self._made: Counter[str] = Counter()
        self._furthest: Counter[str] = Counter()

    def started(self, pack: Pack) -> None:
        """A process has taken the pack."""
        self._made[pack[0].run_id] += 1

    def withdrawn(self, pack: Pack) -> None:
        """The process died before it began with the pack, which is not counted against the pack."""
        self._made[pack[0].run_id] -= 1

    def reached(self, pack: Pack, steps: int) -> None:
        """The pack stands at step `steps`; if that is further than ever before, counting starts again."""
        if steps > self._furthest[pack[0].run_id]:
            self._furthest[pack[0].run_id] = steps
            self._made[pack[0].run_id] = 1

    def left(self, pack: Pack) -> bool:
        """Whether the pack may be tried again."""
        return self._made[pack[0].run_id] < ATTEMPTS
