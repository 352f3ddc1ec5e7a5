"""Packs: runs of one shape that are trained side by side, in the order of their plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from testbed.records import Engine, RunSpec

Pack = tuple[RunSpec, ...]  # runs that differ in seeds and learning rates only

_STEP_FLOPS = 1e8  # the overhead of a step, as FLOPs that take as long


def same_kind(specs: Iterable[RunSpec]) -> tuple[tuple[RunSpec, ...], ...]:
    """The runs, grouped by those that may be packed together (see `RunSpec.kind`)."""
    alike: dict[str, list[RunSpec]] = {}
    for spec in specs:
        alike.setdefault(spec.kind, []).append(spec)
    return tuple(map(tuple, alike.values()))


def packs(specs: Iterable[RunSpec]) -> tuple[Pack, ...]:
    """The packs in which the specs are trained, each of as many runs as its specs say."""
    return tuple(
        group[start : start + (group[0].engine.pack or 1)]
        for group in same_kind(specs)
        for start in range(0, len(group), group[0].engine.pack or 1)
    )


def packed(specs: Iterable[RunSpec], largest: int | None) -> tuple[RunSpec, ...]:
    """The same runs in packs of at most `largest`, as even as can be; None is each alone by its family's own module."""
    alone = [spec.model_copy(update={"engine": spec.engine.model_copy(update={"pack": None})}) for spec in specs]
    if largest is None:
        return tuple(alone)
    sizes = {kind: _pack_sizes(count, largest) for kind, count in Counter(spec.kind for spec in alone).items()}
    return tuple(spec.model_copy(update={"engine": Engine(pack=next(sizes[spec.kind]))}) for spec in alone)


def _pack_sizes(count: int, largest: int) -> Iterator[int]:
    """The size of the pack that each of `count` runs of one kind is in."""
    in_packs = -(-count // largest)
    for index in range(in_packs):
        size = count // in_packs + (index < count % in_packs)
        yield from [size] * size


def cost(pack: Pack) -> float:
    """About how long a pack takes, in FLOPs: those of all its runs, and 100 MFLOP of overhead for each step."""
    return sum(spec.flops for spec in pack) + _STEP_FLOPS * pack[0].steps


def makespan(durations: Sequence[float], workers: int) -> float:
    """Seconds until the last worker is done when each duration goes to the worker that is free first."""
    loads = [0.0] * workers
    for duration in durations:
        loads[loads.index(min(loads))] += duration
    return max(loads)
