"""Outliers: runs that disagree with the other seeds of their cell, and cells that the law does not pass through.

A run is measured by how far its residual from the fitted law lies from the median of the other seeds' in its cell, in
units of a noise that follows from the median of the cells' variances, so that an outlier does not hide itself. A
cell is measured by its externally studentised residual: its mean against the law fitted without it, in units of the
other cells' scatter. A cell is not named where one of its runs is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2
from scipy.stats import t as student

from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.forecast import follows_from_n_and_tokens
from testbed.config import ForecastSettings
from testbed.records import Record

if TYPE_CHECKING:
    from pandas.core.groupby import SeriesGroupBy

Array = NDArray[np.float64]

_FALSE_ALARM = 0.01  # chance of naming something in a grid in which nothing is wrong
_LEAST_SEEDS = 2
_LEAST_NOISE = 1e-6  # relative: what rounding leaves
_LEAST_FREEDOM = 2  # of the law fitted without one cell: the other cells less its parameters
_EFFICIENCY = 0.37  # of the median of many variances, relative to their mean


class Outlier(Record):
    """One run's loss or one cell's mean that disagrees: by `departure`, relative, which is `z` standard errors."""

    what: Literal["run", "cell"]
    run: str | None
    width: int
    tokens: int
    init_seed: int | None
    departure: float
    z: float


class Outliers(Record):
    """The outliers found, the worst first, and the noise that they were judged by.

    `noise` is the relative standard deviation of a run, `misfit` that of the cells about the law; it is None where there
    are too few cells for the law's parameters to judge each cell by the others.
    """

    law: str
    runs: int
    cells: int
    noise: float
    misfit: float | None
    found: tuple[Outlier, ...]


def find_outliers(points: pd.DataFrame, fits: Mapping[str, Fit], settings: ForecastSettings) -> Outliers | None:
    """Outliers among the grid's annealed losses in a study's points table, by the law of N and D that fits it best.

    `fits` are the laws fitted to it (see `forecast.fit_laws`). None where no cell has two seeds, or no law is of N and D.
    """
    rows = points[(points["phase"] == "annealed") & (points["role"] == "grid")].reset_index(drop=True)
    usable = [fit for fit in fits.values() if follows_from_n_and_tokens(fit.law)]
    if not usable:
        return None
    fit = min(usable, key=lambda fit: fit.objective)
    n = rows[settings.n].to_numpy(float)
    log_loss = np.log(rows["loss"].to_numpy(float))
    rows = rows.assign(n=n, residual=log_loss - np.log(fit.predict(n=n, tokens=rows["tokens"].to_numpy(float))))
    cells = rows.groupby(["width", "tokens"], sort=True)["residual"]
    if cells.size().max() < _LEAST_SEEDS:
        return None
    noise, freedom = _noise(cells)
    runs = _runs(rows, noise, freedom)
    explained = {(outlier.width, outlier.tokens) for outlier in runs}
    misfit, others = _cells(rows, fit, settings)
    others = [outlier for outlier in others if (outlier.width, outlier.tokens) not in explained]
    return Outliers(
        law=fit.law.name,
        runs=rows["run"].nunique(),
        cells=cells.ngroups,
        noise=noise,
        misfit=misfit,
        found=tuple(sorted([*runs, *others], key=lambda outlier: -abs(outlier.z))),
    )


def _noise(cells: SeriesGroupBy[Any, Any]) -> tuple[float, float]:
    """Relative standard deviation of a run, and its effective degrees of freedom."""
    freedom = cells.size().to_numpy() - 1
    known = freedom > 0
    middle = cells.var().to_numpy()[known] * freedom[known] / chi2.ppf(0.5, freedom[known])
    return max(math.sqrt(float(np.median(middle))), _LEAST_NOISE), max(_EFFICIENCY * float(freedom.sum()), 1.0)


def _runs(rows: pd.DataFrame, noise: float, freedom: float) -> list[Outlier]:
    """The worst run of each cell, where it is too far off; of two seeds that is the one farther from the law."""
    critical = float(student.ppf(1 - _FALSE_ALARM / (2 * len(rows)), freedom))
    found = []
    for _, cell in rows.groupby(["width", "tokens"], sort=True):
        if len(cell) < _LEAST_SEEDS:
            continue
        residuals = cell["residual"].to_numpy()
        others = np.array([np.median(np.delete(residuals, k)) for k in range(len(cell))])
        departures = residuals - others
        z = departures / (noise * math.sqrt(1 + 1 / (len(cell) - 1)))
        worst = int(np.argmax(np.abs(z if len(cell) > _LEAST_SEEDS else residuals)))
        if abs(z[worst]) > critical:
            found.append(_outlier("run", cell.iloc[worst], departures[worst], z[worst]))
    return found


def _cells(rows: pd.DataFrame, fit: Fit, settings: ForecastSettings) -> tuple[float | None, list[Outlier]]:
    """The cells' scatter about the law, and the cells that are too far from it.

    In least squares the residual e of a point and its distance d from the fit without it give its
    leverage, 1 - h = e / d, so the studentised residual d sqrt(1 - h) / s is the root of e d over s.
    """
    means: pd.DataFrame = rows.groupby(["width", "tokens", "n"], sort=True)["loss"].agg(_geometric_mean).reset_index()
    freedom = len(means) - 1 - len(fit.law.parameters)
    if freedom < _LEAST_FREEDOM:
        return None, []
    whole = _residuals(fit, means)
    critical = float(student.ppf(1 - _FALSE_ALARM / (2 * len(means)), freedom))
    found, scatter = [], math.sqrt(float((whole**2).sum()) / (freedom + 1))
    for k in range(len(means)):
        others = means.drop(index=k)
        without = fit_law(fit.law, others[["n", "tokens", "loss"]], delta=settings.delta, n_boot=0, start=fit.theta)
        apart = float(_residuals(without, means.iloc[[k]])[0])
        rest = max(math.sqrt(float((_residuals(without, others) ** 2).sum()) / freedom), _LEAST_NOISE)
        z = math.copysign(math.sqrt(max(apart * whole[k], 0.0)), apart) / rest
        if abs(z) > critical:
            found.append(_outlier("cell", means.iloc[k], apart, z))
    return scatter, found


def _residuals(fit: Fit, cells: pd.DataFrame) -> Array:
    fitted = fit.predict(n=cells["n"].to_numpy(float), tokens=cells["tokens"].to_numpy(float))
    return np.asarray(np.log(cells["loss"].to_numpy(float)) - np.log(fitted))


def _geometric_mean(losses: pd.Series[float]) -> float:
    return math.exp(float(np.log(losses).mean()))


def _outlier(what: Literal["run", "cell"], row: pd.Series[Any], departure: float, z: float) -> Outlier:
    of_run = what == "run"
    return Outlier(
        what=what,
        run=str(row["run"]) if of_run else None,
        width=int(row["width"]),
        tokens=int(row["tokens"]),
        init_seed=int(row["init_seed"]) if of_run else None,
        departure=float(departure),
        z=float(z),
    )
