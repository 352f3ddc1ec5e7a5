"""Chooses which runs are trained side by side, by measuring, and estimates the plan's time and memory.

Side by side, small runs share the overhead of their steps; but a pack keeps one worker busy where separate
runs would keep several, so the choice minimises the time at which the last worker is done.
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

_MIN_SAVING = 0.95  # another choice is taken where it needs less than this share of the time


@dataclass(frozen=True)
class PackChoice:
    """One way to train the runs of a shape: the runs with their packs settled, and the measurement of the largest pack."""

    runs: tuple[RunSpec, ...]
    measured: Measured

    @property
    def pack(self) -> int | None:
        """Runs in the largest pack; None where each is trained by its family's own module."""
        return self.runs[0].engine.pack

    @property
    def pack_seconds(self) -> list[float]:
        """Seconds of each pack."""
        full = self.pack or 1
        return [self.measured.seconds(pack[0]) * len(pack) / full for pack in packs(self.runs)]

    @property
    def memory(self) -> int:
        """Bytes of the largest pack; estimated from its shape where they could not be measured."""
        return estimate(self.runs[0]).bytes if self.measured.memory is None else self.measured.memory

    @property
    def work(self) -> float:
        """Seconds that all packs take on one worker."""
        return sum(self.pack_seconds)


@dataclass(frozen=True)
class Timetable:
    """A plan with its packs settled, the time and memory of its runs, and how long grid and target take.

    `run_seconds` holds each run's share of its pack's seconds, `run_memory` the bytes (of one process) of the
    largest pack of its shape, both by run id. `sentences` say why each shape is trained as it is.
    """

    plan: Plan
    run_seconds: dict[str, float]
    run_memory: dict[str, int]
    grid_seconds: float
    target_seconds: float
    sentences: tuple[str, ...]


def settle_packs(plan: Plan, train: Train) -> Plan | None:
    """The plan with the packs that the configuration fixes; None where they have to be chosen by measuring."""
    if train.pack == "auto" and any(can_pack(spec) for spec in plan.runs):
        return None
    largest = train.pack if isinstance(train.pack, int) else None
    return plan.trained_by([spec.engine for role in (plan.grid, plan.target) for spec in packed(role, largest)])


def choose_packs(
    plan: Plan, train: Train, source_of: Callable[[RunSpec], TokenSource], device: torch.device, workers: int
) -> Timetable:
    """Measure the possible packs of each shape on `device`, and choose those that are done first on so many workers."""
    taken: dict[str, list[PackChoice]] = {}
    sentences = []
    available = available_bytes(device, sharers(device, workers))
    crews = {
        role: max(1, workers // processes(specs)) for role, specs in (("grid", plan.grid), ("target", plan.target))
    }
    for role, specs in (("grid", plan.grid), ("target", plan.target)):
        options = [_measured_choices(runs, train, source_of, device, available) for runs in same_kind(specs)]
        taken[role] = _first_to_end(options, crews[role])
        sentences += [_why(choices, choice, crews[role]) for choices, choice in zip(options, taken[role], strict=True)]
        sentences += [_tight(choice, available) for choice in taken[role]]
    engines = {}
    seconds = {}
    memory = {}
    for choice in (*taken["grid"], *taken["target"]):
        for pack, total in zip(packs(choice.runs), choice.pack_seconds, strict=True):
            for spec in pack:
                engines[spec.planned_id] = spec.engine
                seconds[spec.run_id] = total / len(pack)
                memory[spec.run_id] = choice.memory
    made = plan.trained_by([engines[spec.planned_id] for spec in plan.runs])
    ends = {role: _end(choices, crews[role]) for role, choices in taken.items()}
    return Timetable(made, seconds, memory, ends["grid"], ends["target"], tuple(filter(None, sentences)))


def _measured_choices(
    runs: tuple[RunSpec, ...],
    train: Train,
    source_of: Callable[[RunSpec], TokenSource],
    device: torch.device,
    available: int,
) -> list[PackChoice]:
    """The choices that configuration and memory allow, measured, smaller packs first."""
    sizes: list[int | None] = [None]
    if isinstance(train.pack, int):
        sizes = [train.pack]
    elif train.pack == "auto" and can_pack(runs[0]):
        sizes += sorted({-(-len(runs) // in_packs) for in_packs in range(1, len(runs) + 1)})
    every = [packed(runs, largest) for largest in sizes]
    settled = _side_by_side(
        [choice for choice in every if choice[0].engine.pack is None or can_pack(choice[0])], available
    )
    found = measure([packs(each)[0] for each in settled], source_of, device)
    return [PackChoice(each, measured) for each, measured in zip(settled, found, strict=True)]


def _side_by_side(settled: list[tuple[RunSpec, ...]], available: int) -> list[tuple[RunSpec, ...]]:
    """The first choice, and as many more as can be measured beside each other in so many bytes."""
    needs = accumulate(estimate(runs[0]).bytes for runs in settled)
    return [
        runs for index, (runs, need) in enumerate(zip(settled, needs, strict=True)) if index == 0 or need <= available
    ]


def _first_to_end(options: Sequence[Sequence[PackChoice]], workers: int) -> list[PackChoice]:
    """One choice for each shape: the one of least work, changed as long as the last worker is done sooner."""
    chosen = [next(w for w in choices if _MIN_SAVING * w.work <= min(v.work for v in choices)) for choices in options]
    best = _end(chosen, workers)
    improved = True
    while improved:
        improved = False
        for index, choices in enumerate(options):
            for choice in choices:
                other = [*chosen[:index], choice, *chosen[index + 1 :]]
                if _end(other, workers) < _MIN_SAVING * best:
                    chosen, best, improved = other, _end(other, workers), True
    return chosen


def _end(choices: Sequence[PackChoice], workers: int) -> float:
    durations = [seconds for choice in choices for seconds in choice.pack_seconds]
    return makespan(sorted(durations, reverse=True), workers)


def _why(choices: Sequence[PackChoice], taken: PackChoice, workers: int) -> str:
    """Why these runs are trained in this way; empty where there was one choice only."""
    if len(choices) == 1:
        return ""
    width, alone = taken.runs[0].shape.width, choices[0].work
    gains = f"{alone / taken.work:.2f} times as fast as by the family's own module"
    if taken.pack is not None and taken.pack > 1:
        return f"width {width}: {taken.pack} runs side by side, {gains}"
    least = min(choices, key=lambda choice: choice.work)
    if least.pack is not None and least.pack > 1 and _MIN_SAVING * taken.work > least.work:
        return f"width {width}: each run separately, {gains}; side by side they would end later on {workers} workers"
    return (
        f"width {width}: each run separately, {gains}; packing does not pay ({taken.work / choices[-1].work:.2f} times)"
    )


def _tight(choice: PackChoice, available: int) -> str:
    """A warning where a shape needs more memory than a worker may use; empty where it does not."""
    if choice.memory <= available:
        return ""
    return (
        f"width {choice.runs[0].shape.width}: takes {show_bytes(choice.memory)} of the {show_bytes(available)} that each worker "
        "may use: lower execution.workers, train.pack or train.micro_rows"
    )
