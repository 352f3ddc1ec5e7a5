"""The compute-optimal frontiers of two fits and of their resamples, tabulated: loss by FLOPs, and FLOPs by loss.

Compute is 6 N D with the N that was fitted. Between the tabulated budgets cubic splines interpolate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from testbed.analysis.fit.frontier import best_sizes
from testbed.analysis.fit.result import Fit

Array = NDArray[np.float64]

REACH = 3.0  # decades beyond the runs within which a crossing, or a cost, is searched
_A_DECADE = 8  # budgets a decade at which the optimum is searched
_BETWEEN = 16  # interpolated points between two of them


@dataclass(frozen=True)
class Curves:
    """Log losses [1 + n_boot, m] at log FLOPs [m]: the first row by the estimate, the others by the resamples.

    `sizes` are the log N of the estimate's optimum. nan where a law has no optimum.
    """

    compute: Array
    losses: Array
    sizes: Array
    inflation: float

    @property
    def draws(self) -> int:
        """The number of resamples."""
        return len(self.losses) - 1

    def loss_at(self, compute: float) -> Array:
        """Log losses [1 + n_boot] at log FLOPs."""
        return np.array([np.interp(compute, self.compute, row) for row in self.losses])

    def cost_of(self, losses: Array) -> Array:
        """Log FLOPs [1 + n_boot] at which each curve reaches its log loss; inf beyond the table, -inf before it."""
        return np.array([self._cost(row, loss) for row, loss in zip(self.losses, losses, strict=True)])

    def _cost(self, row: Array, loss: float) -> float:
        known = np.isfinite(row)
        if not known.any() or not np.isfinite(loss):
            return np.nan
        row, compute = row[known], self.compute[known]
        reached = np.flatnonzero(row <= loss)
        if reached.size == 0:
            return np.inf
        first = int(reached[0])
        if first == 0:
            return -np.inf
        share = (row[first - 1] - loss) / (row[first - 1] - row[first])
        return float(compute[first - 1] + share * (compute[first] - compute[first - 1]))


def span(fit: Fit) -> tuple[float, float]:
    """Log FLOPs of the smallest and of the largest fitted run."""
    compute = np.log(6 * fit.rows.columns["n"] * fit.rows.columns["tokens"])
    return float(compute.min()), float(compute.max())


def curves(first: Fit, second: Fit, seed: int) -> tuple[Curves, Curves]:
    """Both frontiers on one axis, from REACH decades before the smallest run to as many beyond the largest.

    Resamples are of whole runs. Those of the second fit are put in another order: they were drawn apart
    from the first's, but with the same seed they may be the same draws.
    """
    ends = span(first), span(second)
    low, high = min(ends[0][0], ends[1][0]), max(ends[0][1], ends[1][1])
    reach = REACH * np.log(10)
    count = max(2, int(np.ceil(_A_DECADE * (high - low + 2 * reach) / np.log(10))))
    budgets = np.linspace(low - reach, high + reach, count)
    draws = min(len(first.resamples), len(second.resamples))
    order = np.random.default_rng(seed).permutation(len(second.resamples))[:draws]
    return _curves(first, np.arange(draws), budgets), _curves(second, order, budgets)


def _curves(fit: Fit, chosen: NDArray[np.intp], budgets: Array) -> Curves:
    thetas = np.concatenate([np.array([list(fit.theta.values())]), fit.resamples[chosen]])
    optima = [best_sizes(fit, thetas, float(np.exp(budget))) for budget in budgets]
    with np.errstate(all="ignore"):
        losses = np.log(np.stack([loss for _, _, loss in optima], axis=1))
        sizes = np.log(np.array([n[0] for n, _, _ in optima]))
    fine = np.linspace(budgets[0], budgets[-1], (len(budgets) - 1) * _BETWEEN + 1)
    return Curves(fine, _between(budgets, losses, fine), np.interp(fine, budgets, sizes), fit.rows.inflation)


def _between(budgets: Array, losses: Array, fine: Array) -> Array:
    """Rows interpolated at `fine`: by cubic splines, or by straight lines where some values are nan."""
    whole = np.isfinite(losses).all(axis=1)
    read = np.empty((len(losses), len(fine)))
    read[whole] = scipy.interpolate.CubicSpline(budgets, losses[whole], axis=1)(fine)
    for k in np.flatnonzero(~whole):
        read[k] = np.interp(fine, budgets, losses[k])
    return read
