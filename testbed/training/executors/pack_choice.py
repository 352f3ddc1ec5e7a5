"""Which runs are trained side by side, chosen by measuring, and the time and memory that the plan then takes.

Side by side, small runs share the overhead of their steps, but a pack keeps one worker busy where its
runs apart would keep several: what counts is when the last worker is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from testbed.config import Train
from testbed.records import RunSpec
from testbed.training.data import TokenSource
from testbed.training.executors.engines import processes, sharers
from testbed.training.models import can_pack
from testbed.training.sweep import Plan, makespan, packed, packs, same_kind
from testbed.training.train import Measured, available_bytes, estimate, measure
from testbed.units import show_bytes

_WORTH = 0.95  # another way is worth it where it takes less than this share of the time


@dataclass(frozen=True)
class Way:
    """One way to train the runs of a shape: the runs with their packs settled, and what the largest pack took."""

    runs: tuple[RunSpec, ...]
    measured: Measured

    @property
    def pack(self) -> int | None:
        """Runs of the largest pack; None where each is trained by its family's own module."""
        return self.runs[0].engine.pack

    @property
    def pack_seconds(self) -> list[float]:
        """Seconds of each of its packs."""
        full = self.pack or 1
        return [self.measured.seconds(pack[0]) * len(pack) / full for pack in packs(self.runs)]

    @property
    def memory(self) -> int:
        """Bytes of its largest pack; by its shape where they could not be measured."""
        return estimate(self.runs[0]).bytes if self.measured.memory is None else self.measured.memory

    @property
    def work(self) -> float:
        """Seconds of one worker for all of them."""
        return sum(self.pack_seconds)


@dataclass(frozen=True)
class Timetable:
    """A plan with its packs settled, what its runs take, and when grid and target are done.

    By a run's id: its share of its pack's seconds, and the bytes of the largest pack of its shape, of one
    process.
    """

    plan: Plan
    run_seconds: dict[str, float]
    run_memory: dict[str, int]
    grid_seconds: float
    target_seconds: float
    sentences: tuple[str, ...]


def settle_packs(plan: Plan, train: Train) -> Plan | None:
    """The plan with its packs where the configuration says which; None where they are to be measured."""
    if train.pack == "auto" and any(can_pack(spec) for spec in plan.runs):
        return None
    largest = train.pack if isinstance(train.pack, int) else None
    return plan.trained_by([spec.engine for role in (plan.grid, plan.target) for spec in packed(role, largest)])


def choose_packs(
    plan: Plan, train: Train, source_of: Callable[[RunSpec], TokenSource], device: torch.device, workers: int
) -> Timetable:
    """Measure the ways to train the runs of each shape on `device`, and take those that end first on so many workers."""
    taken: dict[str, list[Way]] = {}
    sentences = []
    available = available_bytes(device, sharers(device, workers))
    crews = {
        role: max(1, workers // processes(specs)) for role, specs in (("grid", plan.grid), ("target", plan.target))
    }
    for role, specs in (("grid", plan.grid), ("target", plan.target)):
        options = [_ways(runs, train, source_of, device, available) for runs in same_kind(specs)]
        taken[role] = _first_to_end(options, crews[role])
        sentences += [_why(ways, way, crews[role]) for ways, way in zip(options, taken[role], strict=True)]
        sentences += [_tight(way, available) for way in taken[role]]
    engines = {}
    seconds = {}
    memory = {}
    for way in (*taken["grid"], *taken["target"]):
        for pack, total in zip(packs(way.runs), way.pack_seconds, strict=True):
            for spec in pack:
                engines[spec.planned_id] = spec.engine
                seconds[spec.run_id] = total / len(pack)
                memory[spec.run_id] = way.memory
    made = plan.trained_by([engines[spec.planned_id] for spec in plan.runs])
    ends = {role: _end(ways, crews[role]) for role, ways in taken.items()}
    return Timetable(made, seconds, memory, ends["grid"], ends["target"], tuple(filter(None, sentences)))


def _ways(
    runs: tuple[RunSpec, ...],
    train: Train,
    source_of: Callable[[RunSpec], TokenSource],
    device: torch.device,
    available: int,
) -> list[Way]:
    """The ways that the configuration and the memory allow, smaller packs first."""
    sizes: list[int | None] = [None]
    if isinstance(train.pack, int):
        sizes = [train.pack]
    elif train.pack == "auto" and can_pack(runs[0]):
        sizes += sorted({-(-len(runs) // in_packs) for in_packs in range(1, len(runs) + 1)})
    every = [packed(runs, largest) for largest in sizes]
    settled = _side_by_side([way for way in every if way[0].engine.pack is None or can_pack(way[0])], available)
    found = measure([packs(each)[0] for each in settled], source_of, device)
    return [Way(each, measured) for each, measured in zip(settled, found, strict=True)]


def _side_by_side(settled: list[tuple[RunSpec, ...]], available: int) -> list[tuple[RunSpec, ...]]:
    """The first of the ways, and as many more as can be measured beside each other in so many bytes."""
    needs = accumulate(estimate(runs[0]).bytes for runs in settled)
    return [
        runs for index, (runs, need) in enumerate(zip(settled, needs, strict=True)) if index == 0 or need <= available
    ]


def _first_to_end(options: Sequence[Sequence[Way]], workers: int) -> list[Way]:
    """One way for each shape: that of least work, changed as long as the last worker is done sooner."""
    chosen = [next(w for w in ways if _WORTH * w.work <= min(v.work for v in ways)) for ways in options]
    best = _end(chosen, workers)
    improved = True
    while improved:
        improved = False
        for index, ways in enumerate(options):
            for way in ways:
                other = [*chosen[:index], way, *chosen[index + 1 :]]
                if _end(other, workers) < _WORTH * best:
                    chosen, best, improved = other, _end(other, workers), True
    return chosen


def _end(ways: Sequence[Way], workers: int) -> float:
    durations = [seconds for way in ways for seconds in way.pack_seconds]
    return makespan(sorted(durations, reverse=True), workers)


def _why(ways: Sequence[Way], taken: Way, workers: int) -> str:
    """Why these runs are trained in this way; empty where there was no choice."""
    if len(ways) == 1:
        return ""
    width, alone = taken.runs[0].shape.width, ways[0].work
    gains = f"{alone / taken.work:.2f} times as fast as by the family's own module"
    if taken.pack is not None and taken.pack > 1:
        return f"width {width}: {taken.pack} runs side by side, {gains}"
    least = min(ways, key=lambda way: way.work)
    if least.pack is not None and least.pack > 1 and _WORTH * taken.work > least.work:
        return f"width {width}: each run by itself, {gains}; side by side they would end later on {workers} workers"
    return f"width {width}: each run by itself, {gains}; packing does not pay ({taken.work / ways[-1].work:.2f} times)"


def _tight(way: Way, available: int) -> str:
    """That a shape takes more than it may; empty where it does not."""
    if way.memory <= available:
        return ""
    return (
        f"width {way.runs[0].shape.width}: takes {show_bytes(way.memory)} of the {show_bytes(available)} that each worker "
        "may use: lower execution.workers, train.pack or train.micro_rows"
    )
