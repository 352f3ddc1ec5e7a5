"""Power laws y = k C^a through the optima of budgets, by a straight line in logarithms."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """y = coefficient C^exponent, C in FLOPs; `resamples` [n_boot, 2] hold (log coefficient, exponent)."""

    coefficient: float
    exponent: float
    resamples: Array = field(repr=False)

    @classmethod
    def through(cls, x: Array, y: Array, resamples: Array, weights: Array | None = None) -> PowerLaw:
        """The line of log y [m] over log C [m]; of its resamples [n_boot, 2] those that are numbers."""
        log_coefficient, exponent = lines(x, y, weights)
        numbers = resamples[np.isfinite(resamples).all(axis=1)]
        return cls(float(np.exp(log_coefficient)), float(exponent), numbers)

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """The percentile interval of the exponent; not a number without resamples."""
        low, high = _percentiles(self.resamples[:, 1], level)
        return float(low), float(high)

    def at(self, flops: ArrayLike, level: float = 0.9) -> pd.DataFrame:
        """Columns flops, value, low, high: y at budgets in FLOPs, and the interval of the line there."""
        budget = np.atleast_1d(np.asarray(flops, np.float64))
        drawn = self.resamples[:, :1] + self.resamples[:, 1:] * np.log(budget)
        low, high = np.exp(_percentiles(drawn, level))
        value = self.coefficient * budget**self.exponent
        return pd.DataFrame({"flops": budget, "value": value, "low": low, "high": high})

    def reflected(self) -> PowerLaw:
        """The line with its resamples mirrored about it, for an estimate that dropping rows moves to one side only."""
        line = np.array([np.log(self.coefficient), self.exponent])
        return PowerLaw(self.coefficient, self.exponent, 2 * line - self.resamples)


def lines(x: Array, y: Array, weights: Array | None = None) -> Array:
    """Intercepts and slopes [..., 2] of y [..., m] over x [m] or [..., m] by weighted least squares.

    Points that are not numbers do not count; where fewer than two x are left, the line is not one either.
    """
    w = np.where(np.isfinite(y), 1.0 if weights is None else weights, 0.0)
    y, x = np.where(w > 0, y, 0.0), np.where(w > 0, x, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = w.sum(axis=-1)
        mean_x, mean_y = (w * x).sum(axis=-1) / total, (w * y).sum(axis=-1) / total
        off_x, off_y = x - mean_x[..., None], y - mean_y[..., None]
        spread = (w * off_x**2).sum(axis=-1)
        slope = (w * off_x * off_y).sum(axis=-1) / np.where(spread > 1e-20 * total, spread, np.nan)
    return np.stack([mean_y - slope * mean_x, slope], axis=-1)


def _percentiles(values: Array, level: float) -> Array:
    if not len(values):
        return np.full((2, *values.shape[1:]), np.nan)
    return np.asarray(np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0))
