"""Choosing single runs, one after another, within a budget; `optimal_grid` chooses a whole grid.

Neither is an approximation of a continuous design: a handful of runs is chosen among a few hundred, so each candidate's
gain is computed and the best taken, then runs are exchanged while that helps (Fedorov, Theory of Optimal
Experiments, 1972, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.design.belief import Belief
from testbed.analysis.design.candidates import Option

Array = NDArray[np.float64]

EQUAL = 1e-4  # relative difference below which two designs count as equal, so that rounding decides nothing
SWEEPS = 12  # of exchanges, at most
_LEAST_GAIN = 0.005  # of the log of the variance, below which a run is not worth suggesting
_LARGEST_SHARE = 0.5  # of the target's FLOPs that one run may take: a forecast over less than a doubling is none


def largest_run(target_flops: float) -> float:
    """The most FLOPs that one loss may cost when runs are chosen for a target of `target_flops`."""
    return _LARGEST_SHARE * target_flops


def one_by_one(belief: Belief, options: Sequence[Option], budget: float, runs: int) -> list[Option]:
    """At most `runs` runs that together cost at most `budget` FLOPs, the most useful first.

    The next run is the one that lowers the log of the target's variance most for its price: its share of the budget
    and of the runs. Then each is exchanged for a better one that the budget allows, until no exchange helps.
    """
    chosen: list[Option] = []
    now, left = belief, budget
    while len(chosen) < runs:
        affordable = [option for option in options if option.flops <= left]
        if not affordable:
            break
        best = affordable[_best_for_its_price(now, affordable, budget, runs)[0]]
        chosen.append(best)
        now, left = now.after(best), left - best.flops
    return _in_order(belief, _exchanged(belief, chosen, options, budget), budget, runs)


def first_best(values: Array) -> int:
    """Index of the first value within rounding error of the minimum."""
    low = float(values.min())
    return int(np.flatnonzero(values <= low + EQUAL * abs(low))[0])


def _exchanged(belief: Belief, chosen: list[Option], options: Sequence[Option], budget: float) -> list[Option]:
    """The chosen runs, each in turn replaced by the best that its FLOPs and the unspent ones buy."""
    reached = _after_all(belief, chosen).variance
    for _ in range(SWEEPS):
        before = reached
        for k in range(len(chosen)):
            others = chosen[:k] + chosen[k + 1 :]
            left = budget - sum(option.flops for option in others)
            affordable = [option for option in options if option.flops <= left]
            variances = _after_all(belief, others).variances(affordable, np.ones(len(affordable)))
            best = first_best(variances)
            if variances[best] < reached * (1 - EQUAL):
                chosen, reached = [*others, affordable[best]], float(variances[best])
        if reached >= before * (1 - EQUAL):
            break
    return chosen


def _in_order(belief: Belief, chosen: list[Option], budget: float, runs: int) -> list[Option]:
    """The same runs, those that gain most for their price first, without those at the end that gain next to nothing."""
    ordered: list[Option] = []
    rest, now = list(chosen), belief
    while rest:
        best, largest_gain = _best_for_its_price(now, rest, budget, runs)
        if ordered and largest_gain < _LEAST_GAIN:
            break
        ordered.append(rest.pop(best))
        now = now.after(ordered[-1])
    return ordered


def _best_for_its_price(now: Belief, options: Sequence[Option], budget: float, runs: int) -> tuple[int, float]:
    """Index of the option that gains most for its price, and the largest gain of any, in log variance."""
    price = np.array([option.flops for option in options]) / budget + 1 / runs
    gain = np.log(now.variance) - np.log(now.variances(options, np.ones(len(options))))
    return first_best(-gain / price), float(gain.max())


def _after_all(belief: Belief, options: Sequence[Option]) -> Belief:
    return reduce(lambda now, option: now.after(option), options, belief)
