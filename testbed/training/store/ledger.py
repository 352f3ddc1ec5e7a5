"""What a sweep has spent and still has to do, and how long that takes; computed from the sessions of its runs.

Steps that were lost with a killed process and repeated count twice: they were paid for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from testbed.records import RunSpec
from testbed.training.store.run_folder import RunFolder, State
from testbed.training.store.sweep_folder import SweepFolder
from testbed.training.sweep import Pack, cost, makespan, packs

_PLAN_WEIGHT = 50  # the planned time of a step counts as much as so many measured steps
_SECONDS_PER_FLOP = 1e-10  # a first guess where no time was planned; the first measured steps correct it (see `_pace`)


@dataclass(frozen=True)
class Spend:
    """Training FLOPs, training tokens and device-seconds (a run of k processes takes k devices)."""

    flops: int = 0
    tokens: int = 0
    device_seconds: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.flops + other.flops, self.tokens + other.tokens, self.device_seconds + other.device_seconds)


@dataclass(frozen=True)
class Entry:
    """One run: the step it has reached, of spec.steps, and the steps and seconds spent on it (its share of its pack).

    `setup` is the part of `seconds` before the first step of each session.
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
        """The work done, in steps; an evaluation counts as the steps that take as long."""
        return self.steps + _evaluations(self.spec, self.reached) * _evaluation_steps(self.spec)

    @property
    def work_left(self) -> float:
        """The work to the run's end, in steps."""
        if not self.left:
            return 0.0
        return self.left + (_evaluations(self.spec) - _evaluations(self.spec, self.reached)) * _evaluation_steps(
            self.spec
        )

    @property
    def left(self) -> int:
        """Optimiser steps to the run's end; 0 where it has ended."""
        return 0 if self.state in ("done", "failed") else max(self.spec.steps - self.reached, 0)


class Ledger:
    """The account of runs; `predicted` holds the planned seconds of each (its share of its pack), by run id."""

    def __init__(self, entries: Sequence[Entry], predicted: Mapping[str, float] | None = None) -> None:
        self.entries = tuple(entries)
        self._predicted = dict(predicted or {})

    @classmethod
    def of(cls, sweep: SweepFolder, specs: Iterable[RunSpec] | None = None) -> Ledger:
        """The account of these runs of the sweep, by default of all."""
        return cls.of_runs(map(sweep.run, sweep.specs if specs is None else specs), sweep.timetable())

    @classmethod
    def of_runs(
        cls, runs: Iterable[RunFolder], predicted: Mapping[str, float], states: Mapping[str, State] | None = None
    ) -> Ledger:
        """The account of these runs; `states`, by run id, are read from the folders where they are not given."""
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
        """What the unfinished runs still cost."""
        return sum((self.cost((entry,)) for entry in self.entries), Spend())

    @property
    def share(self) -> float:
        """The share of the work that is done, weighted by its seconds; 1 where there is nothing to do."""
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
        """Seconds until the last of `workers` is done: running packs continue, then the longest are started first."""
        working: list[tuple[float, float]] = []
        waiting: list[tuple[float, float]] = []
        for pack, rows in self.packs():
            seconds = sum(row.work_left * self._pace(row.spec) for row in rows)
            (working if any(row.state == "running" for row in rows) else waiting).append((cost(pack), seconds))
        order = [seconds for _, seconds in sorted(waiting, reverse=True)]
        return makespan([*(seconds for _, seconds in working), *order], max(workers, len(working)))

    def _pace(self, spec: RunSpec) -> float:
        """Seconds of one step of the run (its share of its pack): measured on runs with the same step, at first as planned."""
        seconds, work = self._measured.get(spec.step_kind, (0.0, 0.0))
        return (seconds + _PLAN_WEIGHT * self._slowdown * self._planned_pace(spec)) / (work + _PLAN_WEIGHT)

    @cached_property
    def _by_run(self) -> dict[str, Entry]:
        return {entry.spec.run_id: entry for entry in self.entries}

    @cached_property
    def _measured(self) -> dict[str, tuple[float, float]]:
        """Seconds after the first steps, and the work done in them, by `step_kind`."""
        found: dict[str, tuple[float, float]] = {}
        for entry in self.entries:
            if entry.steps:
                seconds, work = found.get(entry.spec.step_kind, (0.0, 0.0))
                found[entry.spec.step_kind] = (seconds + entry.seconds - entry.setup, work + entry.work)
        return found

    @cached_property
    def _slowdown(self) -> float:
        """Measured over planned seconds of all steps so far."""
        begun = [entry for entry in self.entries if entry.steps]
        planned = sum(entry.work * self._planned_pace(entry.spec) for entry in begun)
        return sum(entry.seconds - entry.setup for entry in begun) / planned if planned else 1.0

    def _planned_pace(self, spec: RunSpec) -> float:
        """Planned seconds of one step; in proportion to the run's FLOPs where no time was planned."""
        seconds = self._predicted.get(spec.run_id)
        return (cost((spec,)) * _SECONDS_PER_FLOP if seconds is None else seconds) / _work(spec)


def _work(spec: RunSpec) -> float:
    return spec.steps + _evaluations(spec) * _evaluation_steps(spec)


def _evaluation_steps(spec: RunSpec) -> float:
    """The cost of one evaluation in optimiser steps: a forward pass (a third of a step) over the validation tokens."""
    return spec.data.val_tokens / (3 * spec.batch_tokens)


def _evaluations(spec: RunSpec, reached: int | None = None) -> int:
    """Evaluations after the first `reached` of the run's steps, on trunk and branches, or all of them."""
    done, count = 0, 0
    for segment in spec.segments:
        end = segment.end if reached is None else segment.start + reached - done
        count += bisect_right(segment.eval_steps, end)
        done += segment.steps
    return count


def _entry(run: RunFolder, state: State) -> Entry:
    every = run.sessions()
    reached = run.spec.steps if state == "done" else every[-1].reached if every else 0
    # a killed process may have saved steps in a checkpoint that its session does not count yet
    steps = max(sum(session.steps for session in every), reached)
    return Entry(
        run.spec, state, reached, steps, sum(s.seconds for s in every), sum(session.setup for session in every)
    )
