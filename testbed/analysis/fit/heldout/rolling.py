"""How well a law predicts larger runs from smaller ones: the rolling origin, and k-fold by run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.heldout.coverage import calibration, interval_score
from testbed.analysis.fit.prediction.domain import Domain, log_compute
from testbed.analysis.fit.prediction.predict import get_prediction
from testbed.analysis.fit.result import Fit
from testbed.analysis.laws import Law
from testbed.errors import TableError

Array = NDArray[np.float64]

_FROM, _TO = 0.35, 0.85  # quantiles of the runs' compute between which a table is cut
_LEAST_ROWS, _LEAST_RUNS = 14, 6  # below a cut
_MATCHED = 3  # with so many held-out rows about as far away as the target, only those count
_FOLDS = 5


@dataclass(frozen=True)
class Cut:
    """One origin: the rows [rows] that are fitted, and the larger, comparable ones of other runs that are predicted.

    `at` is the largest fitted place and `gap` [rows] how far beyond it each row lies, in decades of compute (or of
    what orders the rows).
    """

    at: float
    fitted: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    gap: Array


def cuts_of(fit: Fit, count: int, target: Mapping[str, float] | None) -> list[Cut]:
    """Cuts by the compute of whole runs at quantiles from .35 to .85, smallest first; those with too few rows are left out.

    Of the held-out rows those count that have a D/N like the fitted ones'; with a `target` beyond the data,
    those about as far away as it is (half to double the decades), where there are three.
    """
    columns = {name: fit.points[name].to_numpy() for name in fit.law.columns}
    position = _position(fit.law, columns)
    run = pd.factorize(fit.points["run"])[0]
    size = np.full(run.max() + 1, -np.inf)
    np.maximum.at(size, run, position)
    cuts: list[Cut] = []
    for at in np.quantile(size, np.linspace(_FROM, _TO, count)):
        fitted = (size <= at)[run]
        if fitted.sum() < _LEAST_ROWS or (size <= at).sum() < _LEAST_RUNS:
            continue
        domain = Domain.of(fit.law, {name: values[fitted] for name, values in columns.items()})
        gap = position - position[fitted].max()
        held_out = ~fitted & (gap > 0)
        if domain.ratio is not None:
            held_out &= domain.inside(columns)
        held_out = _matched(held_out, gap, _target_gap(fit, target))
        if held_out.any() and not any(np.array_equal(fitted, cut.fitted) for cut in cuts):
            cuts.append(Cut(float(position[fitted].max()), fitted, held_out, gap))
    return cuts


def predict_held_out(fit: Fit, cut: Cut, level: float, unit: str) -> pd.DataFrame:
    """The held-out rows as predicted by `fit`'s law when fitted below the cut, in the space of residuals.

    Columns gap (decades), observed, predicted by the plain law, kriged (with its discrepancy), low and high.
    TableError where the law cannot be fitted there.
    """
    part = fit_law(
        fit.law,
        fit.points[cut.fitted].reset_index(drop=True),
        columns={name: name for name in fit.points.columns},
        loss=fit.loss,
        delta=fit.delta,
        space=fit.space,
        fixed=fit.fixed,
        n_boot=0,
        where="the smaller runs",
    ).with_settings(fit.differs, None if fit.settings is None else fit.settings[cut.fitted])
    at = {name: fit.points[name].to_numpy()[cut.held_out] for name in fit.law.columns}
    prediction = get_prediction(part, at, level, unit=unit)
    low, high = prediction.interval()
    values = {
        "observed": fit.points[fit.law.response].to_numpy(np.float64)[cut.held_out],
        "predicted": part.predict(at),
        "kriged": prediction.mean,
        "low": low,
        "high": high,
    }
    if fit.space == "log":
        values = {name: np.log(value) for name, value in values.items()}
    return pd.DataFrame(values).assign(gap=cut.gap[cut.held_out])


def scores(table: pd.DataFrame, level: float) -> dict[str, float]:
    """Means over held-out rows: error of the plain law, kriged error, and the interval score."""
    observed, predicted, kriged, low, high = (
        table[name].to_numpy() for name in ("observed", "predicted", "kriged", "low", "high")
    )
    return {
        "error": float(np.abs(observed - predicted).mean()),
        "kriged_error": float(np.abs(observed - kriged).mean()),
        "score": float(interval_score(low, high, observed, level).mean()),
    }


def kappa(tables: list[pd.DataFrame], level: float) -> float:
    """The `calibration` of held-out rows, each cut counting the same; nan without a cut."""
    if not tables:
        return np.nan
    ratios, weights = [], []
    for table in tables:
        half = np.maximum((table["high"] - table["low"]).to_numpy() / 2, 1e-300)
        ratios.append((table["observed"] - table["kriged"]).abs().to_numpy() / half)
        weights.append(np.full(len(table), 1 / len(table)))
    return calibration(np.concatenate(ratios), np.concatenate(weights), level)


def k_fold(fit: Fit, seed: int) -> float:
    """Mean absolute error over runs that were left out, a fifth at a time; in the space of residuals."""
    count = min(_FOLDS, fit.rows.n_units)
    fold = np.random.default_rng(seed).permutation(fit.rows.n_units) % count
    times = (fold != np.arange(count)[:, None]).astype(np.float64)
    y, weights = fit.rows.resampled(times)
    found = fit.problem.solve(y, weights, np.repeat(fit.phi[None], count, axis=0))
    left = np.abs(fit.rows.y - fit.problem.coordinates.response(found.phi, fit.problem.columns))
    out = weights == 0
    return float(left[out].mean()) if out.any() else np.nan


def gap_of(fit: Fit, target: Mapping[str, Any]) -> float:
    """Decades from the largest fitted run to the target; 0 within."""
    at = {name: np.atleast_1d(np.asarray(target[name], np.float64)) for name in fit.law.columns}
    return float(Domain.of(fit.law, fit.rows.columns).gap(at)[0])


def _target_gap(fit: Fit, target: Mapping[str, float] | None) -> float:
    if target is None or any(name not in target for name in fit.law.columns):
        return 0.0
    return gap_of(fit, target)


def _matched(held_out: NDArray[np.bool_], gap: Array, wanted: float) -> NDArray[np.bool_]:
    """The held-out rows about as far away as the target, where enough are."""
    alike = held_out & (gap >= wanted / 2) & (gap <= 2 * wanted)
    return alike if wanted > 0 and alike.sum() >= _MATCHED else held_out


def _position(law: Law, columns: Mapping[str, NDArray[Any]]) -> Array:
    """Place of each row from small to large [rows], in decades: compute, else the column that spans most."""
    compute = log_compute(columns)
    if compute is not None:
        return compute
    domain = Domain.of(law, columns)
    if not domain.names:
        raise TableError(f"{law.name}: no column of numbers by which runs could be ordered")
    return domain.rows[:, int(np.argmax(np.ptp(domain.rows, axis=0)))]
