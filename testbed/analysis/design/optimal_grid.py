"""Choosing a whole grid within a budget: which rungs, at which horizons, with how many seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.design.belief import Belief
from testbed.analysis.design.candidates import Candidates, Option
from testbed.analysis.design.choice import EQUAL, SWEEPS, first_best, largest_run
from testbed.errors import ConfigError

Array = NDArray[np.float64]

_STARTS = 12  # of the grids to begin with, those that are improved to the end
_WIDTHS = 3  # that a grid has at least: with two sizes no law's N-term is determined


@dataclass(frozen=True)
class Taken:
    """The runs of one rung of a grid: its number, the numbers of its horizons, and how many seeds each gets."""

    rung: int
    horizons: tuple[int, ...]
    seeds: int


def optimal(
    belief: Belief, candidates: Candidates, target_flops: float, budget: float, least: int, most: int, cells: int
) -> tuple[Taken, ...]:
    """The grid of least variance within `budget` FLOPs: for each rung its horizons, and `least` to `most` seeds.

    From many starts, each of one rung, the others are added and exchanged one at a time; at the end no change of a
    single rung helps. A grid has at least three rungs and `cells` cells, so that laws can be fitted and distinguished.

    Raises:
        ConfigError: The budget does not buy such a grid.
    """
    by_rung: dict[int, list[Option]] = {}
    for option in candidates.options(largest_run(target_flops)):
        by_rung.setdefault(option.rung, []).append(option)
    space = _Space(belief, by_rung, budget, least, most, cells)
    complete = [grid for start in _starts(space) if (grid := _completed(space, start)) is not None]
    if not complete:
        raise ConfigError(
            f"grid.budget: {budget:.3g} FLOPs buy no grid of {_WIDTHS} widths, {cells} cells and {least} seeds each (the "
            f"cheapest takes {_cheapest_flops(space):.3g}); raise it, or give smaller widths or shorter horizons"
        )
    order = np.argsort([space.variance(grid) for grid in complete], kind="stable")
    found = [_improved(space, complete[k]) for k in order[:_STARTS]]
    best = found[first_best(np.array([space.variance(grid) for grid in found]))]
    return tuple(Taken(i, option.horizons, seeds) for i, (option, seeds) in sorted(best.items()))


_Block = tuple[Option, int]  # the runs of one rung: one of its options, and of how many seeds
_Grid = Mapping[int, _Block]


@dataclass(frozen=True)
class _Space:
    """The grids to choose from: of each rung one of its options, with `least` to `most` seeds, within `budget` FLOPs."""

    belief: Belief
    by_rung: Mapping[int, Sequence[Option]]
    budget: float
    least: int
    most: int
    cells: int

    @property
    def options(self) -> list[Option]:
        """All options, rung by rung."""
        return [option for own in self.by_rung.values() for option in own]

    def blocks(self, rung: int, rest: _Grid) -> list[_Block]:
        """The blocks of one rung that the budget allows beside the rest of a grid."""
        left = self.budget - sum(option.flops * seeds for option, seeds in rest.values())
        seeds = range(self.least, self.most + 1)
        return [(option, k) for option in self.by_rung[rung] for k in seeds if option.flops * k <= left]

    def variance(self, grid: _Grid) -> float:
        """The target's variance after this grid."""
        return self._after(grid).variance

    def variances(self, rest: _Grid, blocks: Sequence[_Block]) -> Array:
        """The target's variance [blocks] after a grid with one more block."""
        seeds = np.array([seeds for _, seeds in blocks], np.float64)
        return self._after(rest).variances([option for option, _ in blocks], seeds)

    def is_complete(self, grid: _Grid) -> bool:
        """Whether laws can be fitted to it."""
        return len(grid) >= _WIDTHS and sum(len(option.cells) for option, _ in grid.values()) >= self.cells

    def _after(self, grid: _Grid) -> Belief:
        return reduce(lambda belief, block: belief.after(*block), grid.values(), self.belief)


def _starts(space: _Space) -> Iterator[_Grid]:
    """Grids of one rung: the runs of all horizons up to each one, of all of these but one, and of it alone."""
    for option in space.options:
        simple = len(option.horizons) == 1 or option.horizons[-1] + 1 - len(option.horizons) <= 1
        if simple and option.flops * space.least <= space.budget:
            yield {option.rung: (option, space.least)}


def _completed(space: _Space, grid: _Grid) -> _Grid | None:
    """The grid with rungs and horizons added until it is complete; None where the budget does not allow it."""
    while not space.is_complete(grid):
        larger = _best_addition(space, grid)
        if larger is None:
            return None
        grid = larger
    return grid


def _best_addition(space: _Space, grid: _Grid) -> _Grid | None:
    """The grid with one more rung, or more horizons at one: what lowers the log of the variance most by its price."""
    before, larger, worth = np.log(space.variance(grid)), [], []
    for rung in space.by_rung:
        if rung in grid and len(grid) < _WIDTHS:
            continue
        rest = _without(grid, rung)
        cells, paid = (len(grid[rung][0].cells), grid[rung][0].flops) if rung in grid else (0, 0.0)
        blocks = [b for b in space.blocks(rung, rest) if b[1] == space.least and len(b[0].cells) > cells]
        if blocks:
            gain = before - np.log(space.variances(rest, blocks))
            price = np.maximum(np.array([option.flops for option, _ in blocks]) - paid, 1e-9 * space.budget)
            larger += [{**rest, rung: block} for block in blocks]
            worth += list(gain / price)
    return larger[first_best(-np.array(worth))] if larger else None


def _improved(space: _Space, grid: _Grid) -> _Grid:
    """The best grid near this one: one rung at a time gets another block, or a block where it has none."""
    reached = space.variance(grid)
    for _ in range(SWEEPS):
        before = reached
        for rung in space.by_rung:
            rest = _without(grid, rung)
            blocks = [block for block in space.blocks(rung, rest) if space.is_complete({**rest, rung: block})]
            if not blocks:
                continue
            variances = space.variances(rest, blocks)
            best = first_best(variances)
            if variances[best] < reached * (1 - EQUAL):
                grid, reached = {**rest, rung: blocks[best]}, float(variances[best])
        if reached >= before * (1 - EQUAL):
            break
    return grid


def _cheapest_flops(space: _Space) -> float:
    """FLOPs of about the cheapest complete grid: the cheapest run of each of a few rungs, then one cell at a time."""
    smallest = sorted((min(own, key=_flops) for own in space.by_rung.values()), key=_flops)[:_WIDTHS]
    grid = {option.rung: option for option in smallest}
    while sum(len(option.cells) for option in grid.values()) < space.cells:
        larger = _cheapest_addition(space, grid)
        if larger is None:
            break
        grid = {**grid, larger.rung: larger}
    return space.least * sum(option.flops for option in grid.values())


def _cheapest_addition(space: _Space, grid: Mapping[int, Option]) -> Option | None:
    """The option that gives one rung one cell more than it has in the grid, at the least further cost."""

    def has(rung: int) -> tuple[int, float]:
        return (len(grid[rung].cells), grid[rung].flops) if rung in grid else (0, 0.0)

    larger = [option for option in space.options if len(option.cells) == has(option.rung)[0] + 1]
    return min(larger, key=lambda option: option.flops - has(option.rung)[1], default=None)


def _flops(option: Option) -> float:
    return option.flops


def _without(grid: _Grid, rung: int) -> dict[int, _Block]:
    return {other: block for other, block in grid.items() if other != rung}
