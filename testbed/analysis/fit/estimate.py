"""A law's parameters as estimated from a table: how well they fit, and what the law says of other runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.fit.coordinates import Coordinates
from testbed.analysis.fit.problem import Loss, Problem
from testbed.analysis.fit.resampling import Replicates, Rows
from testbed.analysis.fit.search import Search
from testbed.analysis.fit.targets import columns_of
from testbed.analysis.laws import Law

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A law fitted to a table, with what follows from the optimum and its resamples alone; nothing in it changes.

    `theta` are the parameters in the law's own letters and natural units; `objective` is what was
    minimised (see `Problem`); `resamples` [n_boot, p] are the parameters of resampled runs, in the order
    of `theta`; `columns` says which column of the table played which part. `differs` are further columns in which
    rows of one design differ and that are no seed, `settings` [points] the number of each point's combination of them.
    """

    law: Law
    theta: dict[str, float]
    objective: float
    converged: bool
    loss: Loss
    delta: float
    space: Literal["log", "linear"]
    replicates: Replicates
    fixed: dict[str, float]
    seed: int
    columns: dict[str, str]
    search: Search
    points: pd.DataFrame = field(repr=False)
    resamples: Array = field(repr=False)
    resamples_converged: NDArray[np.bool_] = field(repr=False)
    differs: tuple[str, ...] = ()
    settings: NDArray[np.intp] | None = field(default=None, repr=False)

    @cached_property
    def rows(self) -> Rows:
        """The rows that were fitted."""
        return Rows.of(self.points, self.law, self.space, self.replicates, self.settings)

    @cached_property
    def problem(self) -> Problem:
        """The minimisation problem whose optimum this is."""
        prepared = self.law.prepare(self.rows.columns)
        coordinates = Coordinates.of(self.law, prepared, self.rows.y, self.space, self.fixed)
        return Problem(coordinates, prepared, self.loss, self.delta)

    @property
    def phi(self) -> Array:
        """The solver's coordinates of the parameters [p]."""
        return self.problem.coordinates.coordinates(self.theta)

    @property
    def params(self) -> pd.Series[float]:
        """The parameters in natural units."""
        return pd.Series(self.theta, name="params")

    @property
    def bootstrap(self) -> pd.DataFrame:
        """The parameters of every resample [n_boot, p], with whether its fit converged."""
        return pd.DataFrame(self.resamples, columns=list(self.theta)).assign(converged=self.resamples_converged)

    @property
    def bse(self) -> pd.Series[float]:
        """Standard errors of the parameters: the spread of the resamples."""
        return self._resampled_params().std(ddof=1).rename("bse")

    def correlation(self) -> pd.DataFrame:
        """Correlation of the parameters [p, p] over the resamples."""
        return self._resampled_params().corr()

    def influence(self) -> pd.DataFrame:
        """The parameters [runs, p] when each run is left out, or each point of a single run."""
        times = 1 - np.eye(self.rows.n_units)
        y, weights = self.rows.resampled(times)
        found = self.problem.solve(y, weights, np.repeat(self.phi[None], self.rows.n_units, axis=0))
        return pd.DataFrame(self.problem.coordinates.natural(found.phi), columns=list(self.theta))

    @property
    def at_zero(self) -> tuple[str, ...]:
        """Parameters that ended at the edge of their domain, 0: the data do not show that term."""
        return tuple(name for name, value in self.theta.items() if value == 0 and name not in self.fixed)

    @property
    def at_bound(self) -> tuple[str, ...]:
        """Free parameters that stopped at a bound of the search other than 0: the table does not determine them."""
        roles = {p.name: p.role for p in self.law.parameters}
        edges = self.problem.coordinates.at_edge(self.phi)
        return tuple(name for name in edges if roles[name] not in ("amplitude", "constant"))

    @property
    def in_words(self) -> str:
        """The objective as a phrase, such as "sum of absolute deviations of log loss"."""
        of = f"of {'log ' if self.space == 'log' else ''}{self.law.response}"
        return {
            "huber": f"sum of Huber losses {of}, delta {self.delta:g}",
            "lad": f"sum of absolute deviations {of}",
            "ls": f"half the sum of squares {of}",
            "huber-likelihood": f"negative log-likelihood {of}, Huber's density, delta {self.delta:g}",
        }[self.loss]

    @property
    def nobs(self) -> int:
        """The number of fitted rows."""
        return len(self.rows.y)

    @property
    def n_runs(self) -> int:
        """The number of runs behind the rows: the effective number of observations."""
        return self.rows.n_runs

    @property
    def df_resid(self) -> int:
        """Residual degrees of freedom: rows less free parameters."""
        return self.nobs - len(self.problem.coordinates.free)

    @property
    def fittedvalues(self) -> Array:
        """The law's response at every fitted row [rows], in its units."""
        return np.asarray(np.exp(self.rows.y - self.resid) if self.space == "log" else self.rows.y - self.resid)

    @cached_property
    def resid(self) -> Array:
        """Observed minus fitted [rows]: of log responses in log space, else of responses."""
        response = self.problem.coordinates.response(self.phi[None], self.problem.columns)[0]
        return np.asarray(self.rows.y - response, np.float64)

    @property
    def rsquared(self) -> float:
        """Share of the response's variance, in its units, that the law explains."""
        observed = np.exp(self.rows.y) if self.space == "log" else self.rows.y
        left = float(((observed - self.fittedvalues) ** 2).sum())
        return 1 - left / float(((observed - observed.mean()) ** 2).sum())

    @property
    def llf(self) -> float:
        """Log-likelihood of the residuals at their best scale: normal for least squares, else Laplace."""
        n = self.nobs
        if self.loss == "ls":
            return float(-0.5 * n * (np.log(2 * np.pi * np.mean(self.resid**2)) + 1))
        return float(-n * (np.log(2 * np.mean(np.abs(self.resid))) + 1))

    @property
    def aic(self) -> float:
        """Akaike's information criterion; the scale counts as a parameter."""
        return 2 * self._counted - 2 * self.llf

    @property
    def aicc(self) -> float:
        """Akaike's criterion with the correction for few rows; infinite where parameters are too many."""
        k, n = self._counted, self.nobs
        return self.aic + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf

    @property
    def bic(self) -> float:
        """The Bayesian information criterion; the scale counts as a parameter."""
        return self._counted * float(np.log(self.nobs)) - 2 * self.llf

    @property
    def _counted(self) -> int:
        return len(self.problem.coordinates.free) + 1

    def predict(self, data: pd.DataFrame | Mapping[str, ArrayLike] | None = None, /, **columns: ArrayLike) -> Array:
        """The law's response [rows] at its columns, in its units; given as a table (see `fit.targets`) or one by one."""
        return np.asarray(self._responses(np.array([list(self.theta.values())]), columns if data is None else data)[0])

    def predict_resamples(
        self, data: pd.DataFrame | Mapping[str, ArrayLike] | None = None, /, **columns: ArrayLike
    ) -> Array:
        """The response [n_boot, rows] under each resample, its spread inflated for the finite number of seeds."""
        at = columns if data is None else data
        centre, each = self.predict(at), self._responses(self.resamples, at)
        if self.space == "linear":
            return np.asarray(centre + self.rows.inflation * (each - centre))
        return np.asarray(centre * np.exp(self.rows.inflation * (np.log(each) - np.log(centre))))

    def _responses(self, theta: Array, at: pd.DataFrame | Mapping[str, ArrayLike]) -> Array:
        columns = self.law.prepare(columns_of(self.law, self.columns, at))
        named = {name: theta[:, k : k + 1] for k, name in enumerate(self.theta)}
        return np.asarray(self.law.value(named, columns), np.float64)

    def _resampled_params(self) -> pd.DataFrame:
        spread = self.resamples - self.resamples.mean(axis=0)
        return pd.DataFrame(self.resamples.mean(axis=0) + self.rows.inflation * spread, columns=list(self.theta))


def robust_sd(residuals: Array) -> float:
    """The standard deviation about 0 of normal errors whose median size is that of these residuals."""
    return 1.4826 * float(np.median(np.abs(residuals)))
