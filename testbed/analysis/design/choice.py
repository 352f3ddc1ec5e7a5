"""Choosing runs: one after another, or a whole grid within a budget.

Neither is an approximation of a continuous design: a handful of runs is chosen among a few hundred, so
each candidate's gain is computed and the best taken, then runs are exchanged while that helps (Fedorov,
Theory of Optimal Experiments, 1972, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.design.belief import Belief
from testbed.analysis.design.candidates import Candidates, Option
from testbed.errors import ConfigError

Array = NDArray[np.float64]

_BETTER = 1e-4  # relative gain below which two designs count as equal, so that rounding decides nothing
_WORTH = 0.005  # of the log of the variance, below which a run is not worth suggesting
_SWEEPS = 12
_STARTS = 12  # of the grids to begin with, those that are exchanged to the end
_FRACTION = 0.5  # of the target's FLOPs that a run may take: a forecast of less than a doubling is none
_WIDTHS = 3  # that a grid has at least: with two sizes no law's N-term is determined


@dataclass(frozen=True)
class Taken:
    """What is trained at one rung: its number, the numbers of its horizons, and of how many seeds."""

    rung: int
    horizons: tuple[int, ...]
    seeds: int


def largest_run(target_flops: float) -> float:
    """FLOPs that one loss may cost when runs are chosen for a target."""
    return _FRACTION * target_flops


def one_by_one(belief: Belief, options: Sequence[Option], budget: float, runs: int) -> list[Option]:
    """At most `runs` runs within `budget` FLOPs, the best first.

    The next run is the one that lowers the log of the variance most by its price: its share of the budget
    and of the runs. Then each is exchanged for a better one that the budget allows, until none is.
    """
    chosen: list[Option] = []
    now, left = belief, budget
    while len(chosen) < runs:
        open_to = [option for option in options if option.flops <= left]
        if not open_to:
            break
        price = np.array([option.flops for option in open_to]) / budget + 1 / runs
        gain = np.log(now.variance) - np.log(now.variances(open_to, np.ones(len(open_to))))
        best = open_to[_first_best(-gain / price)]
        chosen.append(best)
        now, left = now.after(best), left - best.flops
    return _in_order(belief, _exchanged(belief, chosen, options, budget), budget, runs)


def _exchanged(belief: Belief, chosen: list[Option], options: Sequence[Option], budget: float) -> list[Option]:
    """The chosen runs, each in turn given up for the best that its money buys."""
    reached = _all_of(belief, chosen).variance
    for _ in range(_SWEEPS):
        before = reached
        for k in range(len(chosen)):
            others = chosen[:k] + chosen[k + 1 :]
            left = budget - sum(option.flops for option in others)
            open_to = [option for option in options if option.flops <= left]
            variances = _all_of(belief, others).variances(open_to, np.ones(len(open_to)))
            best = _first_best(variances)
            if variances[best] < reached * (1 - _BETTER):
                chosen, reached = [*others, open_to[best]], float(variances[best])
        if reached >= before * (1 - _BETTER):
            break
    return chosen


def _in_order(belief: Belief, chosen: list[Option], budget: float, runs: int) -> list[Option]:
    """The same runs, those first that give most for their price, without those that give next to nothing."""
    ordered: list[Option] = []
    rest, now = list(chosen), belief
    while rest:
        price = np.array([option.flops for option in rest]) / budget + 1 / runs
        gain = np.log(now.variance) - np.log(now.variances(rest, np.ones(len(rest))))
        best = _first_best(-gain / price)
        if ordered and gain.max() < _WORTH:
            break
        ordered.append(rest.pop(best))
        now = now.after(ordered[-1])
    return ordered


def optimal(
    belief: Belief, candidates: Candidates, target_flops: float, budget: float, least: int, most: int, cells: int
) -> tuple[Taken, ...]:
    """The grid of least variance within `budget` FLOPs: of each rung its horizons and `least` to `most` seeds.

    From many starts, each of one rung, the others are added and exchanged one at a time; at the end no change
    of a single rung helps. At least three rungs and `cells` cells are kept, so that laws can be fitted and
    told apart. ConfigError where the budget is not enough for that.
    """
    options = candidates.options(largest_run(target_flops))
    search = _Search(belief, options, budget, least, most, cells)
    filled = [grid for start in search.starts() if (grid := search.filled(start)) is not None]
    if not filled:
        raise ConfigError(
            f"grid.budget: {budget:.3g} FLOPs buy no grid of {_WIDTHS} widths, {cells} cells and {least} seeds each (the "
            f"cheapest takes {search.cheapest():.3g}); raise it, or give smaller widths or shorter horizons"
        )
    order = np.argsort([search.variance(grid) for grid in filled], kind="stable")
    found = [search.exchanged(filled[k]) for k in order[:_STARTS]]
    best = found[_first_best(np.array([search.variance(grid) for grid in found]))]
    return tuple(Taken(i, option.horizons, seeds) for i, (option, seeds) in sorted(best.items()))


_Grid = Mapping[int, tuple[Option, int]]


@dataclass(frozen=True)
class _Search:
    belief: Belief
    options: tuple[Option, ...]
    budget: float
    least: int
    most: int
    cells: int

    @cached_property
    def _by_rung(self) -> dict[int, list[Option]]:
        """The options of each rung."""
        rungs: dict[int, list[Option]] = {}
        for option in self.options:
            rungs.setdefault(option.rung, []).append(option)
        return rungs

    def starts(self) -> Iterator[_Grid]:
        """One rung each: the runs of all horizons up to each one, of all but one of them, and of it alone."""
        for option in self.options:
            short = len(option.horizons) == 1 or option.horizons[-1] + 1 - len(option.horizons) <= 1
            if short and option.flops * self.least <= self.budget:
                yield {option.rung: (option, self.least)}

    def exchanged(self, grid: _Grid) -> _Grid:
        """The best grid next to this one: one rung at a time is changed, given up or taken in."""
        reached = self.variance(grid)
        for _ in range(_SWEEPS):
            before = reached
            for rung in self._by_rung:
                rest = {i: taken for i, taken in grid.items() if i != rung}
                blocks = [block for block in self._blocks(rung, rest) if self._enough(rest | {rung: block})]
                if not blocks:
                    continue
                variances = self._variances(rest, blocks)
                best = _first_best(variances)
                if variances[best] < reached * (1 - _BETTER):
                    grid, reached = rest | {rung: blocks[best]}, float(variances[best])
            if reached >= before * (1 - _BETTER):
                break
        return grid

    def variance(self, grid: _Grid) -> float:
        """Of the target, after this grid."""
        return self._after(grid).variance

    def cheapest(self) -> float:
        """FLOPs of about the cheapest grid: the cheapest runs of so many rungs, then the cheapest further cells."""
        least = {rung: min(runs, key=lambda o: o.flops) for rung, runs in self._by_rung.items()}
        grid = dict(sorted(least.items(), key=lambda item: item[1].flops)[:_WIDTHS])
        while sum(len(option.cells) for option in grid.values()) < self.cells:
            more = [
                (option.flops - (grid[option.rung].flops if option.rung in grid else 0.0), k)
                for k, option in enumerate(self.options)
                if len(option.cells) == (len(grid[option.rung].cells) if option.rung in grid else 0) + 1
            ]
            if not more:
                break
            option = self.options[min(more)[1]]
            grid[option.rung] = option
        return self.least * sum(option.flops for option in grid.values())

    def filled(self, grid: _Grid) -> _Grid | None:
        """Rungs added, or given more horizons, what gains most by its price first, until the grid is one."""
        while not self._enough(grid):
            reached, moves, worth = np.log(self.variance(grid)), [], []
            for rung in self._by_rung:
                rest = {i: taken for i, taken in grid.items() if i != rung}
                now, paid = (len(grid[rung][0].cells), grid[rung][0].flops) if rung in grid else (0, 0.0)
                if now and len(grid) < _WIDTHS:
                    continue
                blocks = [b for b in self._blocks(rung, rest) if b[1] == self.least and len(b[0].cells) > now]
                if blocks:
                    gain = reached - np.log(self._variances(rest, blocks))
                    price = np.maximum(np.array([option.flops for option, _ in blocks]) - paid, 1e-9 * self.budget)
                    moves += [{**rest, rung: block} for block in blocks]
                    worth += list(gain / price)
            if not moves:
                return None
            grid = moves[_first_best(-np.array(worth))]
        return grid

    def _blocks(self, rung: int, rest: _Grid) -> list[tuple[Option, int]]:
        """What one rung could be with the money that the others leave."""
        left = self.budget - sum(option.flops * seeds for option, seeds in rest.values())
        seeds = range(self.least, self.most + 1)
        return [(option, k) for option in self._by_rung[rung] for k in seeds if option.flops * k <= left]

    def _variances(self, rest: _Grid, blocks: Sequence[tuple[Option, int]]) -> Array:
        seeds = np.array([seeds for _, seeds in blocks], np.float64)
        return self._after(rest).variances([option for option, _ in blocks], seeds)

    def _after(self, grid: _Grid) -> Belief:
        return reduce(lambda belief, block: belief.after(*block), grid.values(), self.belief)

    def _enough(self, grid: _Grid) -> bool:
        return len(grid) >= _WIDTHS and sum(len(option.cells) for option, _ in grid.values()) >= self.cells


def _all_of(belief: Belief, options: Sequence[Option]) -> Belief:
    return reduce(lambda now, option: now.after(option), options, belief)


def _first_best(values: Array) -> int:
    """The first of those that are lowest but for rounding."""
    low = float(values.min())
    return int(np.flatnonzero(values <= low + _BETTER * abs(low))[0])
