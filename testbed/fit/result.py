"""A fitted law: parameters, how well it fits, predictions, and what else follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from testbed.fit.coordinates import Coordinates
from testbed.fit.problem import Loss, Problem
from testbed.fit.resampling import Replicates, Rows
from testbed.fit.search import Search
from testbed.fit.targets import columns_of
from testbed.laws import Law

if TYPE_CHECKING:
    from testbed.fit.diagnostics.finding import Finding
    from testbed.fit.prediction.backtest import Backtest
    from testbed.fit.prediction.predict import Prediction

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fit:
    """A law fitted to a table; nothing in it changes.

    `theta` are the parameters in the law's own letters and natural units; `objective` is what was
    minimised (see `Problem`); `resamples` [n_boot, p] are the parameters of resampled runs, in the order
    of `theta`; `columns` says which column of the table played which part.
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

    @cached_property
    def rows(self) -> Rows:
        """The rows that were fitted."""
        return Rows.of(self.points, self.law, self.space, self.replicates)

    @cached_property
    def problem(self) -> Problem:
        """What was minimised."""
        prepared = self.law.prepare(self.rows.columns)
        coordinates = Coordinates.of(self.law, prepared, self.rows.y, self.space, self.fixed)
        return Problem(coordinates, prepared, self.loss, self.delta)

    @property
    def phi(self) -> Array:
        """The solver's coordinates of the parameters [p]."""
        return self.problem.coordinates.coordinates(self.theta)

    # --- the parameters -----------------------------------------------------------------------

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

    def cov_params(self) -> pd.DataFrame:
        """Covariance of the parameters [p, p] over the resamples."""
        return self._resampled_params().cov()

    def correlation(self) -> pd.DataFrame:
        """Correlation of the parameters [p, p] over the resamples."""
        return self._resampled_params().corr()

    def conf_int(
        self, alpha: float = 0.1, method: Literal["percentile", "bca", "profile"] = "percentile"
    ) -> pd.DataFrame:
        """Intervals of the parameters of level 1 - alpha, with columns low and high (see `fit.intervals`)."""
        from testbed.fit.intervals import intervals

        return intervals(self, 1 - alpha, method)

    def interval(self, name: str, level: float = 0.9) -> tuple[float, float]:
        """The percentile interval of one parameter."""
        bounds = self.conf_int(1 - level)
        return float(bounds["low"][name]), float(bounds["high"][name])

    def profile(self, name: str, values: ArrayLike) -> pd.DataFrame:
        """Columns value and rise: how far the objective rises, in units of chi-square, with a parameter held there."""
        from testbed.fit.intervals import profile

        at = np.atleast_1d(np.asarray(values, np.float64))
        return pd.DataFrame({"value": at, "rise": profile(self, name, at)})

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

    # --- how well it fits ---------------------------------------------------------------------

    @property
    def in_words(self) -> str:
        """What was minimised, as a phrase."""
        of = f"of {'log ' if self.space == 'log' else ''}{self.law.response}"
        return {
            "huber": f"sum of Huber losses {of}, delta {self.delta:g}",
            "lad": f"sum of absolute deviations {of}",
            "ls": f"half the sum of squares {of}",
            "huber-likelihood": f"negative log-likelihood {of}, Huber's density, delta {self.delta:g}",
        }[self.loss]

    @property
    def nobs(self) -> int:
        """Rows that were fitted."""
        return len(self.rows.y)

    @property
    def n_runs(self) -> int:
        """Runs behind the rows: the effective number of observations."""
        return self.rows.n_runs

    @property
    def df_resid(self) -> int:
        """Rows less free parameters."""
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
        """Akaike's criterion; the scale counts as a parameter."""
        return 2 * self._counted - 2 * self.llf

    @property
    def aicc(self) -> float:
        """Akaike's criterion with the correction for few rows; infinite where parameters are too many."""
        k, n = self._counted, self.nobs
        return self.aic + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf

    @property
    def bic(self) -> float:
        """Schwarz's criterion."""
        return self._counted * float(np.log(self.nobs)) - 2 * self.llf

    @property
    def _counted(self) -> int:
        return len(self.problem.coordinates.free) + 1

    # --- what it has to confess -------------------------------------------------------------------

    def diagnostics(self, raw: pd.DataFrame | None = None) -> tuple[Finding, ...]:
        """What is doubtful: a code, a sentence, the numbers; `raw` is the whole table that was fitted (see `fit.diagnostics`)."""
        from testbed.fit.diagnostics.diagnose import diagnose

        return diagnose(self, raw)

    @property
    def unidentified(self) -> tuple[str, ...]:
        """Parameters that the data do not determine."""
        from testbed.fit.diagnostics.identification import doubts

        doubted = {name for doubt in doubts(self) for name in doubt.parameters}
        return tuple(name for name in self.theta if name in doubted)

    @property
    def identified(self) -> bool:
        """Whether the data determine every parameter."""
        return not self.unidentified

    def summary(self, level: float = 0.9) -> str:
        """The fit as a text of a screenful: what was fitted to what, parameters with errors and intervals, merit."""
        from testbed.fit.document import as_text

        return as_text(self, level)

    # --- predictions --------------------------------------------------------------------------

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

    def get_prediction(
        self,
        data: pd.DataFrame | Mapping[str, ArrayLike],
        level: float = 0.9,
        noise: float | None = None,
        unit: str = "nats",
        seeds: int = 1,
    ) -> Prediction:
        """Responses at the law's columns, with intervals that hold beyond the data (see `fit.prediction`)."""
        from testbed.fit.prediction.predict import get_prediction

        return get_prediction(self, data, level, noise, unit, seeds)

    def backtest(
        self, cuts: int = 7, level: float = 0.9, unit: str = "nats", by: str | None = None, n_boot: int = 300
    ) -> Backtest:
        """How such intervals did on this table's larger runs when only the smaller were fitted (see `fit.backtest`)."""
        from testbed.fit.prediction.backtest import backtest_fit

        return backtest_fit(self, cuts=cuts, level=level, unit=unit, by=by, n_boot=n_boot, seed=self.seed)

    def frontier(self, flops: ArrayLike, level: float = 0.9, inference_tokens: float = 0.0) -> pd.DataFrame:
        """The compute-optimal n, tokens, tokens_per_param and loss for training FLOPs, with intervals (see `fit.frontier`)."""
        from testbed.fit.frontier import frontier

        return frontier(self, flops, level, inference_tokens)

    def solve(self, response: float, level: float = 0.9, **given: float) -> pd.Series[float]:
        """What a response costs: the column that is not given, or FLOPs on the frontier where none is (see `fit.frontier`)."""
        from testbed.fit.frontier import solve

        return solve(self, response, given, level)

    # --- as a document ------------------------------------------------------------------------

    def to_dict(self, level: float = 0.9) -> dict[str, Any]:
        """Everything the fit is, as JSON values of 17 digits; `level` is that of the intervals in it."""
        from testbed.fit.document import to_dict

        return to_dict(self, level)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], where: str = "the document") -> Fit:
        """The fit that `to_dict` gave; TableError where it is none or its points were changed."""
        from testbed.fit.document import from_dict

        return from_dict(document, where)

    def _responses(self, theta: Array, at: pd.DataFrame | Mapping[str, ArrayLike]) -> Array:
        columns = self.law.prepare(columns_of(self.law, self.columns, at))
        named = {name: theta[:, k : k + 1] for k, name in enumerate(self.theta)}
        return np.asarray(self.law.value(named, columns), np.float64)

    def _resampled_params(self) -> pd.DataFrame:
        spread = self.resamples - self.resamples.mean(axis=0)
        return pd.DataFrame(self.resamples.mean(axis=0) + self.rows.inflation * spread, columns=list(self.theta))
