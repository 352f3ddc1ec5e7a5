"""Coverage, width and score of prediction intervals, by distance beyond the data."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

METHODS = ("kriging", "gauss-newton", "bootstrap")
DISTANCES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.5)  # decades beyond the largest fitted run
LABELS = (*(f"{low:g} to {high:g}" for low, high in pairwise(DISTANCES)), f"above {DISTANCES[-1]:g}")
ALL = "all"

_MEANS = ["covered", "width", "score", "error"]


def scored(
    method: str, ends: tuple[Array, Array, Array], observed: Array, level: float, space: Literal["log", "linear"]
) -> pd.DataFrame:
    """One row a response [m] for the prediction, low and high in `ends` [m], all in the space of residuals.

    Observed, predicted, low and high are given in the response's units. `error`, `width` and `score` (see
    `interval_score`) stay in the space of residuals.
    """
    predicted, low, high = ends
    natural = np.exp if space == "log" else np.asarray
    return pd.DataFrame(
        {
            "method": method,
            "observed": natural(observed),
            "predicted": natural(predicted),
            "low": natural(low),
            "high": natural(high),
            "covered": (low <= observed) & (observed <= high),
            "error": np.abs(observed - predicted),
            "width": high - low,
            "score": interval_score(low, high, observed, level),
        }
    )


def interval_score(low: Array, high: Array, observed: Array, level: float) -> Array:
    """The score [m] of intervals of `level`, less is better (Gneiting and Raftery, JASA 102, 2007, equation 43)."""
    missed = np.maximum(low - observed, 0) + np.maximum(observed - high, 0)
    return np.asarray(high - low + 2 / (1 - level) * missed)


def calibration(ratio: Array, weight: Array, level: float) -> float:
    """The factor on half-widths with which intervals would cover `level` of responses of these weights [m].

    `ratio` [m] is each response's distance from its prediction in half-widths. A factor above 1.5 says that
    intervals were too short on this very table.
    """
    order = np.argsort(ratio, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    return float(ratio[order][np.searchsorted(share, level - 1e-12)])


def cells(predictions: pd.DataFrame, *within: str) -> pd.DataFrame:
    """Means of predictions over each of the columns `within`, cut, distance and method, and how many there are."""
    by = [*within, "cut", "distance", "method"]
    grouped = predictions.assign(distance=distance(predictions["gap"])).groupby(by, sort=True)
    return grouped[_MEANS].mean().assign(predicted=grouped.size()).reset_index()


def summarised(cells: pd.DataFrame) -> pd.DataFrame:
    """Means over cells by method and distance, "all" last: coverage, width, score, error and the number of cells."""
    grouped = pd.concat([cells, cells.assign(distance=ALL)]).groupby(["method", "distance"], sort=False)
    table = grouped[_MEANS].mean().assign(cells=grouped.size()).rename(columns={"covered": "coverage"})
    order = [(method, label) for method in METHODS for label in (*LABELS, ALL) if (method, label) in table.index]
    return table.loc[order].reset_index()


def distance(gap: pd.Series[float]) -> pd.Series[str]:
    """The name of each gap's distance, a gap in decades above 0."""
    number = np.searchsorted(DISTANCES[1:], gap.to_numpy(), side="left")
    return pd.Series(np.array(LABELS)[number], index=gap.index, name="distance")
