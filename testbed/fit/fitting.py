"""Fitting one law to one table: parameters, their intervals, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from testbed.errors import TableError
from testbed.fit.coordinates import Coordinates
from testbed.fit.resampling import Replicates, Rows
from testbed.fit.solver import global_minimum, minimise
from testbed.laws import Law, find_law

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A law fitted to a table.

    `params` in the law's own letters and natural units; `objective` is the sum of Huber losses on log
    loss; `resamples` [n_boot, p] are the parameters of resampled runs, in the order of `params`.
    """

    law: Law
    params: dict[str, float]
    objective: float
    converged: bool
    delta: float
    rows: Rows = field(repr=False)
    resamples: Array = field(repr=False)

    @property
    def nobs(self) -> int:
        """Rows that were fitted."""
        return len(self.rows.table)

    @property
    def n_runs(self) -> int:
        """Runs behind the rows: the effective number of observations."""
        return self.rows.n_runs

    @property
    def at_zero(self) -> tuple[str, ...]:
        """Parameters that ended at the edge of their domain, 0."""
        return tuple(name for name, value in self.params.items() if value == 0)

    @property
    def resid(self) -> Array:
        """Log loss observed minus fitted [rows]."""
        residual: Array = self.rows.y - np.log(self.predict(**self.rows.columns))
        return residual

    def predict(self, **columns: ArrayLike) -> Array:
        """Loss in nats/token [rows] at the law's columns (n parameters, tokens)."""
        losses: Array = self._losses(np.array([list(self.params.values())]), columns)[0]
        return losses

    def predict_resamples(self, **columns: ArrayLike) -> Array:
        """Loss [n_boot, rows] under each resample, its spread inflated for the finite number of seeds."""
        centre = np.log(self.predict(**columns))
        spread = np.log(self._losses(self.resamples, columns)) - centre
        widened: Array = np.exp(centre + self.rows.inflation * spread)
        return widened

    def conf_int(self, level: float = 0.9) -> pd.DataFrame:
        """Percentile intervals of the parameters by resampling runs, with columns low and high."""
        low, high = zip(*(self.interval(name, level) for name in self.params), strict=True)
        return pd.DataFrame({"low": low, "high": high}, index=list(self.params))

    def interval(self, name: str, level: float = 0.9) -> tuple[float, float]:
        """The percentile interval of one parameter, its spread inflated for the finite number of seeds."""
        centre = self.params[name]
        widened = centre + self.rows.inflation * (self.resamples[:, list(self.params).index(name)] - centre)
        low, high = np.quantile(widened, [(1 - level) / 2, (1 + level) / 2])
        return max(float(low), 0.0), float(high)

    def to_dict(self, level: float = 0.9) -> dict[str, Any]:
        """The fit as JSON values: parameters, intervals, and what they were fitted to."""
        return {
            "law": self.law.name,
            "params": self.params,
            "intervals": {name: list(self.interval(name, level)) for name in self.params},
            "level": level,
            "objective": self.objective,
            "delta": self.delta,
            "converged": self.converged,
            "at_zero": list(self.at_zero),
            "n_points": self.nobs,
            "n_runs": self.n_runs,
        }

    def _losses(self, theta: Array, columns: Mapping[str, ArrayLike]) -> Array:
        given = {name: np.atleast_1d(np.asarray(columns[name], np.float64)) for name in self.law.columns}
        named = {name: theta[:, k : k + 1] for k, name in enumerate(self.params)}
        losses: Array = np.asarray(self.law.loss(named, given), np.float64)
        return losses


def fit_law(
    law: Law | str,
    points: pd.DataFrame,
    delta: float = 1e-3,
    replicates: Replicates = "separate",
    n_boot: int = 1000,
    seed: int = 0,
) -> Fit:
    """Fit `law` to columns n, tokens, loss, run (see points.fit_columns); the same seed gives the same bits.

    `replicates="mean"` fits the mean log loss of the runs at each (n, tokens) instead of every point.
    """
    law = find_law(law) if isinstance(law, str) else law
    rows = Rows.of(points, replicates)
    if len(rows.table) <= len(law.parameters):
        raise TableError(
            f"{len(rows.table)} row{'s' * (len(rows.table) > 1)} for the {len(law.parameters)} parameters of {law.name}; "
            "give more points than parameters"
        )
    _check_spread(law, rows)
    coordinates = Coordinates.of(law, rows.columns, rows.y)
    ones = np.ones(len(rows.table))
    phi, objective, converged = global_minimum(coordinates, rows.columns, rows.y, ones, delta, seed)
    y, weights = rows.draw(n_boot, seed)
    starts = np.repeat(phi[None], n_boot, axis=0)
    found = minimise(coordinates, rows.columns, y, weights, starts, delta, steps=80)
    return Fit(
        law=law,
        params=dict(zip((p.name for p in law.parameters), coordinates.natural(phi[None])[0].tolist(), strict=True)),
        objective=objective,
        converged=converged,
        delta=delta,
        rows=rows,
        resamples=coordinates.natural(found.phi),
    )


def _check_spread(law: Law, rows: Rows) -> None:
    for name in law.columns:
        values = rows.columns[name]
        if values.min() == values.max():
            raise TableError(
                f"{name} is {values[0]:g} in every row, so its exponent cannot be fitted; give runs that differ in it"
            )
