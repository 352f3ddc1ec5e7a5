"""Whether a law's intervals would have held: fitted to the smaller runs of a table, tested on its larger ones.

Extrapolation cannot be checked within the rows that were fitted. Here a table is cut at several computes;
the rows below are fitted, and those above with similar tokens per parameter are predicted. Averages are over
cells of one cut and one distance, so that no cluster of similar rows dominates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from testbed.analysis.fit.diagnostics.differences import rows_differ
from testbed.analysis.fit.diagnostics.finding import Finding
from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.heldout.coverage import METHODS, calibration, cells, distance, scored, summarised
from testbed.analysis.fit.prediction.domain import Domain, log_compute
from testbed.analysis.fit.prediction.predict import get_prediction, student
from testbed.analysis.fit.problem import Loss
from testbed.analysis.fit.resampling import Replicates
from testbed.analysis.laws import Law
from testbed.errors import ConfigError, TableError
from testbed.points import column_named

if TYPE_CHECKING:
    from testbed.analysis.fit.result import Fit

Array = NDArray[np.float64]

_NEAREST = 0.02  # decades; a shorter distance counts as this
_FROM, _TO = 0.30, 0.92  # quantiles of the compute between which a table is cut
_RUNS = 6  # fewest runs below a cut


@dataclass(frozen=True, eq=False)
class Backtest:
    """Coverage, width and error of intervals of `level` beyond the runs that were fitted.

    `predictions` has one row a held-out row, cut and method: cut, rows (fitted), row (its number in the
    table), gap (decades), method, observed, predicted, low, high, in the response's units; covered, and in
    the space of residuals error, width and score, the interval score of Gneiting and Raftery (JASA 102,
    2007, equation 43); less is better. "kriging" is `Fit.get_prediction`, the others are what is
    usually reported: the plain law with Gauss-Newton and Student's t, and percentiles of its resamples.
    """

    law: str
    level: float
    by: str
    predictions: pd.DataFrame = field(repr=False)
    warnings: tuple[Finding, ...] = ()

    @property
    def cells(self) -> pd.DataFrame:
        """Means over each cut, distance and method: covered, width, score, error, and rows that were predicted."""
        return cells(self.predictions)

    @property
    def summary(self) -> pd.DataFrame:
        """Means over the cells by method and distance, and over all ("all")."""
        return summarised(self.cells)

    @property
    def kappa(self) -> float:
        """The `calibration` of the kriging intervals over the cells."""
        rows = self.predictions[self.predictions["method"] == "kriging"]
        ratio = (2 * rows["error"] / rows["width"].clip(lower=1e-300)).to_numpy()
        weight = 1 / rows.groupby(["cut", distance(rows["gap"])])["gap"].transform("size").to_numpy()
        return calibration(ratio, weight, self.level)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: law, level, what the table was ordered by, cuts, kappa and the summary's rows."""
        return {
            "law": self.law,
            "level": self.level,
            "by": self.by,
            "cuts": int(self.predictions["cut"].nunique()),
            "predicted": len(self.predictions) // len(METHODS),
            "kappa": self.kappa,
            "summary": self.summary.to_dict("records"),
            "warnings": [finding.to_dict() for finding in self.warnings],
        }


def backtest(
    law: Law | str,
    data: pd.DataFrame | Mapping[str, Any],
    *,
    columns: Mapping[str, str] | None = None,
    cuts: int = 7,
    level: float = 0.9,
    unit: str = "nats",
    by: str | None = None,
    loss: Loss | None = None,
    delta: float = 1e-3,
    replicates: Replicates = "separate",
    fixed: Mapping[str, float] | None = None,
    n_boot: int = 300,
    seed: int = 0,
    where: str = "the table",
) -> Backtest:
    """Cut a table at `cuts` quantiles of compute, fit `law` below each cut, and predict what lies above.

    `by` is the column that orders rows where it is not compute: by default what the law's columns give
    as compute, else its step, else the column that spans the most decades (loss downward). A cut counts
    when at least 14 rows (more for laws of many parameters) of 6 runs lie below it. The other arguments
    are those of `fit_law`.

    >>> n, tokens = np.repeat([1e7, 3e7, 1e8, 3e8], 5), np.tile([1e9, 4e9, 2e10, 1e11, 1e12], 4)
    >>> loss = (1.8 + 480 / n**0.35 + 2100 / tokens**0.37) * np.exp(0.002 * np.sin(7 * np.arange(20)))
    >>> table = pd.DataFrame({"n": n, "tokens": tokens, "loss": loss, "run": range(20)})
    >>> found = backtest("hoffmann", table, cuts=2, n_boot=20)
    >>> found.summary.query("distance == 'all'")[["method", "coverage"]].values.tolist()
    [['kriging', 1.0], ['gauss-newton', 1.0], ['bootstrap', 1.0]]

    Raises:
        TableError: No cut leaves enough rows on both sides.
        ConfigError: An argument is out of its range.
    """
    if cuts < 1:
        raise ConfigError(f"cuts: found {cuts!r}; accepted: 1 or more")
    student(level)
    whole = fit_law(
        law, data, columns=columns, loss=loss, delta=delta, replicates=replicates, fixed=fixed, n_boot=0, where=where
    )
    return backtest_fit(whole, cuts=cuts, level=level, unit=unit, by=by, n_boot=n_boot, seed=seed, where=where)


def backtest_fit(
    fit: Fit,
    *,
    cuts: int = 7,
    level: float = 0.9,
    unit: str = "nats",
    by: str | None = None,
    n_boot: int = 300,
    seed: int = 0,
    where: str = "the table",
) -> Backtest:
    """The back-test of an existing fit: its rows, law, loss and options, cut at `cuts` quantiles of compute."""
    by, position = _positions(fit, by)
    least = max(14, 2 * len(fit.problem.coordinates.free) + 4)
    parts = []
    for cut in np.quantile(position, np.linspace(_FROM, _TO, cuts)):
        below = position <= cut
        if below.sum() >= least and _runs(fit, below) >= _RUNS:
            parts.append(_one_cut(fit, position, below, float(cut), level, unit, n_boot, seed, where))
    predictions = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if predictions.empty:
        raise TableError(
            f"{where}: no cut by {by} leaves {least} rows of {_RUNS} runs below it and rows of their kind above; "
            "give more rows, or more runs that are larger than the rest"
        )
    return Backtest(fit.law.name, level, by, predictions, tuple(rows_differ(fit)))


def _one_cut(
    fit: Fit,
    position: Array,
    below: NDArray[np.bool_],
    cut: float,
    level: float,
    unit: str,
    n_boot: int,
    seed: int,
    where: str,
) -> pd.DataFrame:
    """The predictions of what lies above one cut; none where nothing there is of the fitted kind."""
    domain = Domain.of(fit.law, {name: values[below] for name, values in fit.rows.columns.items()})
    raw = {name: values[~below] for name, values in fit.rows.columns.items()}
    kept = domain.inside(raw) if domain.ratio is not None else np.ones(int((~below).sum()), bool)
    if not kept.any():
        return pd.DataFrame()
    try:
        part = _refit(fit, below, n_boot, seed, where)
    except TableError:  # a column that does not vary below the cut
        return pd.DataFrame()
    rows = np.flatnonzero(~below)[kept]
    targets = {name: values[rows] for name, values in fit.rows.columns.items()}
    gap = np.maximum(position[rows] - position[below].max(), _NEAREST)
    frames = [
        scored(method, ends, fit.rows.y[rows], level, fit.space).assign(
            cut=cut, rows=int(below.sum()), row=rows, gap=gap
        )
        for method, ends in _intervals(part, targets, level, unit).items()
    ]
    return pd.concat(frames, ignore_index=True)


def _refit(fit: Fit, below: NDArray[np.bool_], n_boot: int, seed: int, where: str) -> Fit:
    """The fit of the rows below a cut, with the options of `fit`."""
    points = fit.points
    if fit.replicates == "mean":  # each row is several points
        designs = fit.rows.designs
        below = below[designs.groupby(list(designs.columns), sort=True).ngroup().to_numpy()]
    part = fit_law(
        fit.law,
        points[below].reset_index(drop=True),
        columns={name: name for name in points.columns},
        loss=fit.loss,
        delta=fit.delta,
        space=fit.space,
        replicates=fit.replicates,
        fixed=fit.fixed,
        n_boot=n_boot,
        seed=seed,
        where=where,
    )
    return part.with_settings(fit.differs, None if fit.settings is None else fit.settings[below])


def _intervals(fit: Fit, targets: Mapping[str, Any], level: float, unit: str) -> dict[str, tuple[Array, Array, Array]]:
    """Prediction, low and high [m] by each method, in the space of residuals."""
    prediction = get_prediction(fit, targets, level, unit=unit)
    low, high = prediction.interval()
    by_method = {"kriging": (prediction.mean, low, high)}
    plain = fit.predict(targets)
    ends = np.quantile(fit.predict_resamples(targets), [(1 - level) / 2, (1 + level) / 2], axis=0)
    by_method["bootstrap"] = (plain, ends[0], ends[1])
    if fit.space == "log":
        by_method = {method: (np.log(m), np.log(lo), np.log(hi)) for method, (m, lo, hi) in by_method.items()}
        plain = np.log(plain)
    half = _gauss_newton(fit, targets, level)
    return by_method | {"gauss-newton": (plain, plain - half, plain + half)}


def _gauss_newton(fit: Fit, targets: Mapping[str, Any], level: float) -> Array:
    """Half-widths [m] by linearising at the estimate, with independent errors of one size and Student's t."""
    coordinates, phi = fit.problem.coordinates, fit.phi[None]
    slopes = coordinates.slopes(phi, fit.problem.columns)[0].T
    ahead = coordinates.slopes(phi, fit.law.prepare(targets))[0].T
    freedom = max(fit.df_resid, 1)
    variance = float(fit.resid @ fit.resid) / freedom
    parameters = ((ahead @ np.linalg.pinv(slopes.T @ slopes)) * ahead).sum(axis=1)
    return np.asarray(stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance * (1 + np.maximum(parameters, 0))))


def _positions(fit: Fit, by: str | None) -> tuple[str, Array]:
    """The name of what orders the rows, and the place of each [rows], in decades where that is possible."""
    columns = fit.rows.columns
    compute = log_compute(columns)
    if by is None and compute is not None:
        return "compute", compute
    domain = Domain.of(fit.law, columns)
    if by is None:
        by = "step" if "step" in domain.names else domain.names[int(np.argmax(np.ptp(domain.rows, axis=0)))]
    if by not in domain.names:
        raise ConfigError(f"by: found {by!r}; accepted: {', '.join(domain.names)}")
    k = domain.names.index(by)
    position = domain.rows[:, k] / domain.stretch[k] if domain.logarithmic[k] else domain.rows[:, k]
    return by, -position if column_named(by).falls else position


def _runs(fit: Fit, rows: NDArray[np.bool_]) -> int:
    """Runs that made these rows."""
    return len(np.unique(fit.rows.members[np.flatnonzero(rows)].indices))
