"""What a sweep has spent, what it still has to do, and how long that takes: reckoned from its runs' sessions.

Steps that were lost with a killed process and done again count twice: they were paid for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from testbed.records import RunSpec
from testbed.training.store.run_folder import RunFolder, State
from testbed.training.store.sweep_folder import SweepFolder
from testbed.training.sweep import Pack, cost, makespan, packs

_TRUST = 50  # steps that what was reckoned before weighs, beside those measured since


@dataclass(frozen=True)
class Spend:
    """Training FLOPs, training tokens, and seconds of devices (a run of several processes takes as many)."""

    flops: int = 0
    tokens: int = 0
    device_seconds: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.flops + other.flops, self.tokens + other.tokens, self.device_seconds + other.device_seconds)


@dataclass(frozen=True)
class Entry:
    """One run: how far it has come, of spec.steps, and what was spent on it: steps, and seconds (its share of its pack's).

    `setup` are those of the seconds that passed before first steps.
    """

    spec: RunSpec
    state: State
    reached: int
    steps: int
    seconds: float
    setup: float = 0.0

    @property
    def spent(self) -> Spend:
        """What the run has cost so far."""
        tokens = self.steps * self.spec.batch_tokens
        flops = tokens * self.spec.counts.flops_per_token
        return Spend(flops, tokens, self.seconds * self.spec.engine.processes)

    @property
    def work(self) -> float:
        """What was done on it, in steps: an evaluation is worth the steps that it takes the time of."""
        return self.steps + _evaluations(self.spec, self.reached) * _worth(self.spec)

    @property
    def work_left(self) -> float:
        """What it still takes to its end, in steps."""
        if not self.left:
            return 0.0
        return self.left + (_evaluations(self.spec) - _evaluations(self.spec, self.reached)) * _worth(self.spec)

    @property
    def left(self) -> int:
        """Optimiser steps that the run still has to do; none where it has ended."""
        return 0 if self.state in ("done", "failed") else max(self.spec.steps - self.reached, 0)


class Ledger:
    """The account of runs; `predicted` are the seconds that the plan reckoned for each (its share), by run id."""

    def __init__(self, entries: Sequence[Entry], predicted: Mapping[str, float] | None = None) -> None:
        self.entries = tuple(entries)
        self._predicted = dict(predicted or {})

    @classmethod
    def of(cls, sweep: SweepFolder, specs: Iterable[RunSpec] | None = None) -> Ledger:
        """The account of the sweep's runs, all of them if not told which."""
        return cls.of_runs(map(sweep.run, sweep.specs if specs is None else specs), sweep.timetable())

    @classmethod
    def of_runs(
        cls, runs: Iterable[RunFolder], predicted: Mapping[str, float], states: Mapping[str, State] | None = None
    ) -> Ledger:
        """The account of these runs; their states are looked up where they are not given, by run id."""
        return cls([_entry(run, run.state() if states is None else states[run.path.name]) for run in runs], predicted)

    def entry(self, spec: RunSpec) -> Entry:
        """The account of one of the runs."""
        return self._by_run[spec.run_id]

    @cached_property
    def spent(self) -> Spend:
        """What all runs have cost."""
        return sum((entry.spent for entry in self.entries), Spend())

    @cached_property
    def remaining(self) -> Spend:
        """What the runs that have not ended still cost."""
        return sum((self.cost((entry,)) for entry in self.entries), Spend())

    @property
    def share(self) -> float:
        """The share of the work that is done, by the seconds that it takes; 1 where there is nothing to do."""
        left = sum(entry.work_left * self._pace(entry.spec) for entry in self.entries)
        whole = sum(_work(entry.spec) * self._pace(entry.spec) for entry in self.entries if entry.state != "failed")
        return 1 - left / whole if whole else 1.0

    def cost(self, entries: Iterable[Entry]) -> Spend:
        """What these runs still cost."""
        total = Spend()
        for entry in entries:
            tokens = entry.left * entry.spec.batch_tokens
            seconds = entry.work_left * self._pace(entry.spec) * entry.spec.engine.processes
            total += Spend(tokens * entry.spec.counts.flops_per_token, tokens, seconds)
        return total

    def packs(self) -> list[tuple[Pack, tuple[Entry, ...]]]:
        """The packs that have not ended, with their runs' entries."""
        if all(entry.state in ("done", "failed") for entry in self.entries):
            return []
        found = [(pack, tuple(map(self.entry, pack))) for pack in packs(entry.spec for entry in self.entries)]
        return [(pack, rows) for pack, rows in found if any(row.state not in ("done", "failed") for row in rows)]

    @property
    def at_work(self) -> int:
        """Packs that processes are training now."""
        return sum(any(row.state == "running" for row in rows) for _, rows in self.packs())

    def seconds_left(self, workers: int) -> float:
        """Seconds until the last of so many workers is done: those at work go on, then the longest packs are taken first."""
        working: list[tuple[float, float]] = []
        waiting: list[tuple[float, float]] = []
        for pack, rows in self.packs():
            seconds = sum(row.work_left * self._pace(row.spec) for row in rows)
            (working if any(row.state == "running" for row in rows) else waiting).append((cost(pack), seconds))
        order = [seconds for _, seconds in sorted(waiting, reverse=True)]
        return makespan([*(seconds for _, seconds in working), *order], max(workers, len(working)))

    def _pace(self, spec: RunSpec) -> float:
        """Seconds of one step of the run, its share: as its kind has taken so far, and before that as was reckoned."""
        seconds, work = self._measured.get(_kind(spec), (0.0, 0.0))
        return (seconds + _TRUST * self._scale * self._reckoned(spec)) / (work + _TRUST)

    @cached_property
    def _by_run(self) -> dict[str, Entry]:
        return {entry.spec.run_id: entry for entry in self.entries}

    @cached_property
    def _measured(self) -> dict[Hashable, tuple[float, float]]:
        """Seconds after the first steps, and the work done in them, of each kind of run."""
        found: dict[Hashable, tuple[float, float]] = {}
        for entry in self.entries:
            if entry.steps:
                seconds, work = found.get(_kind(entry.spec), (0.0, 0.0))
                found[_kind(entry.spec)] = (seconds + entry.seconds - entry.setup, work + entry.work)
        return found

    @cached_property
    def _scale(self) -> float:
        """How many times as long as reckoned the steps have taken."""
        begun = [entry for entry in self.entries if entry.steps]
        reckoned = sum(entry.work * self._reckoned(entry.spec) for entry in begun)
        return sum(entry.seconds - entry.setup for entry in begun) / reckoned if reckoned else 1.0

    def _reckoned(self, spec: RunSpec) -> float:
        """Seconds of one step as the plan has it; without one in proportion to its FLOPs, in a unit that _scale mends."""
        whole = self._predicted.get(spec.run_id)
        return (cost((spec,)) * 1e-10 if whole is None else whole) / _work(spec)


def _work(spec: RunSpec) -> float:
    return spec.steps + _evaluations(spec) * _worth(spec)


def _worth(spec: RunSpec) -> float:
    """Steps that an evaluation takes the time of: it is a forward pass, a third of a step's work, of the validation tokens."""
    return spec.data.val_tokens / (3 * spec.batch_tokens)


def _evaluations(spec: RunSpec, reached: int | None = None) -> int:
    """Evaluations among the run's first `reached` steps, or all of them: the trunk's, then each cooldown's where it branches."""
    done, trunk, count = 0, 0, 0
    for horizon in spec.horizons:
        here = [step for step in spec.trunk_evals if trunk < step <= horizon.branch_step]
        count += sum(1 for step in here if reached is None or done + step - trunk <= reached)
        done += horizon.branch_step - trunk
        trunk = horizon.branch_step
        every = (horizon.steps - horizon.branch_step) / (spec.branch_evals + 1)
        count += sum(1 for k in range(1, spec.branch_evals + 2) if reached is None or done + k * every <= reached)
        done += horizon.steps - horizon.branch_step
    return count


def _kind(spec: RunSpec) -> Hashable:
    return spec.shape.family, spec.shape.width, spec.shape.depth, spec.batch_tokens, spec.engine


def _entry(run: RunFolder, state: State) -> Entry:
    every = run.sessions()
    reached = run.spec.steps if state == "done" else every[-1].reached if every else 0
    # a process that was killed may have done steps, and kept them in a checkpoint, that it had not yet told
    steps = max(sum(session.steps for session in every), reached)
    return Entry(
        run.spec, state, reached, steps, sum(s.seconds for s in every), sum(session.setup for session in every)
    )
