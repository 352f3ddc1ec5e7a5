"""Tests by ranks, equal to those of scipy.stats, whose import alone takes longer than fitting a table of 245 rows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtr

Array = NDArray[np.float64]


def kruskal(values: Array, groups: NDArray[np.intp]) -> float:
    """The p-value of the Kruskal-Wallis test that values [n] of groups 0, 1, ... have one median; 1 for a single group.

    Equal to `scipy.stats.kruskal` where no two values are tied; ties are not corrected for.
    """
    count = np.bincount(groups)
    if len(count) < 2:
        return 1.0
    n = len(values)
    mean = np.bincount(groups, weights=ranks(values)) / count
    statistic = 12 / (n * (n + 1)) * (count * (mean - (n + 1) / 2) ** 2).sum()
    return float(chdtrc(len(count) - 1, statistic))


def spearman(x: Array, y: Array) -> float:
    """Spearman's rank correlation of x and y [n] as a standard normal z: the coefficient times sqrt(n - 1)."""
    return float(np.corrcoef(ranks(x), ranks(y))[0, 1]) * math.sqrt(len(x) - 1)


def two_sided(z: float) -> float:
    """The chance of a standard normal at least as far from 0 as z."""
    return float(2 * ndtr(-abs(z)))


def ranks(values: Array) -> Array:
    """Ranks from 1, ties sharing their mean rank."""
    return np.asarray(pd.Series(values).rank(), np.float64)
