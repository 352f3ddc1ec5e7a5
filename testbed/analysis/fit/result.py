"""The result of `fit_law`: an estimate with intervals, predictions, frontiers and warnings as methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.fit import document
from testbed.analysis.fit.diagnostics import Finding, diagnose, doubts
from testbed.analysis.fit.estimate import Estimate
from testbed.analysis.fit.frontier import frontier, solve
from testbed.analysis.fit.intervals import intervals, profile
from testbed.analysis.fit.prediction import Prediction, get_prediction


@dataclass(frozen=True, eq=False)
class Fit(Estimate):
    """A law fitted to a table; the names are those of statsmodels.

    Twenty runs of a known law, with errors of 0.2 %:

    >>> n, tokens = np.repeat([1e7, 3e7, 1e8, 3e8], 5), np.tile([1e9, 4e9, 2e10, 1e11, 1e12], 4)
    >>> loss = (1.8 + 480 / n**0.35 + 2100 / tokens**0.37) * np.exp(0.002 * np.sin(7 * np.arange(20)))
    >>> table = pd.DataFrame({"n": n, "tokens": tokens, "loss": loss, "run": range(20)})
    >>> from testbed.analysis.fit import fit_law
    >>> fit = fit_law("hoffmann", table, n_boot=200)
    >>> fit.params.round(2).to_dict()
    {'A': 544.81, 'B': 2117.01, 'E': 1.82, 'alpha': 0.36, 'beta': 0.37}

    The response elsewhere, without and with the interval of one new run:

    >>> fit.predict(n=1e9, tokens=2e10).round(2)
    array([2.47])
    >>> prediction = fit.get_prediction({"n": [1e9], "tokens": [2e10]})
    >>> np.round(prediction.interval(), 2).ravel()
    array([2.46, 2.48])

    Intervals of a parameter, by resampling whole runs and by the profile of the objective (rise in units of
    chi-square with one degree of freedom):

    >>> np.round(fit.interval("alpha"), 2)
    array([0.34, 0.37])
    >>> fit.profile("alpha", [0.33, fit.theta["alpha"], 0.39]).round(1)["rise"].tolist()
    [24.8, 0.0, 45.5]

    The compute-optimal model for a budget in FLOPs, and what a loss costs in tokens at a given size:

    >>> fit.frontier([1e20, 1e21])[["n", "tokens", "loss"]].map(lambda value: float(f"{value:.2g}"))
                  n        tokens  loss
    0  8.800000e+08  1.900000e+10   2.5
    1  2.800000e+09  5.900000e+10   2.3
    >>> print(f"{fit.solve(2.5, n=1e9)['value']:.2g}")
    1.5e+10

    Warnings, and the fit as JSON and back:

    >>> [finding.code for finding in fit.diagnostics()]
    []
    >>> Fit.from_dict(fit.to_dict()).theta == fit.theta
    True
    """

    def conf_int(
        self, alpha: float = 0.1, method: Literal["percentile", "bca", "profile"] = "percentile"
    ) -> pd.DataFrame:
        """Intervals of the parameters of level 1 - alpha, with columns low and high (see `fit.intervals`)."""
        return intervals(self, 1 - alpha, method)

    def interval(self, name: str, level: float = 0.9) -> tuple[float, float]:
        """The percentile interval of one parameter."""
        bounds = self.conf_int(1 - level)
        return float(bounds["low"][name]), float(bounds["high"][name])

    def profile(self, name: str, values: ArrayLike) -> pd.DataFrame:
        """Columns value and rise: how far the objective rises, in units of chi-square, with a parameter held there."""
        at = np.atleast_1d(np.asarray(values, np.float64))
        return pd.DataFrame({"value": at, "rise": profile(self, name, at)})

    def diagnostics(self, raw: pd.DataFrame | None = None) -> tuple[Finding, ...]:
        """Warnings about the fit: a code, a sentence and numbers each; `raw` is the whole table that was fitted."""
        return diagnose(self, raw)

    @property
    def unidentified(self) -> tuple[str, ...]:
        """Parameters that the data do not determine."""
        doubted = {name for doubt in doubts(self) for name in doubt.parameters}
        return tuple(name for name in self.theta if name in doubted)

    @property
    def identified(self) -> bool:
        """Whether the data determine every parameter."""
        return not self.unidentified

    def summary(self, level: float = 0.9) -> str:
        """The fit as text: law, table, objective, criteria, and the parameters with standard errors and intervals.

        Raises:
            ConfigError: The fit has too few resamples for intervals.
        """
        return document.as_text(self, level)

    def get_prediction(
        self,
        data: pd.DataFrame | Mapping[str, ArrayLike],
        level: float = 0.9,
        noise: float | None = None,
        unit: str = "nats",
        seeds: int = 1,
    ) -> Prediction:
        """Responses at the law's columns, with intervals that hold beyond the data (see `fit.prediction`)."""
        return get_prediction(self, data, level, noise, unit, seeds)

    def frontier(self, flops: ArrayLike, level: float = 0.9, inference_tokens: float = 0.0) -> pd.DataFrame:
        """The compute-optimal n, tokens, tokens_per_param and loss for training FLOPs, with intervals (see `fit.frontier`)."""
        return frontier(self, flops, level, inference_tokens)

    def solve(self, response: float, level: float = 0.9, **given: float) -> pd.Series[float]:
        """Where the response is reached: the column that is not given, or FLOPs on the frontier where none is given."""
        return solve(self, response, given, level)

    def with_settings(self, differs: tuple[str, ...], settings: NDArray[np.intp] | None) -> Self:
        """The fit with what its points differ in besides a seed, where its table had that no more; means of seeds have none."""
        return self if self.replicates == "mean" else replace(self, differs=differs, settings=settings)

    def to_dict(self, level: float = 0.9) -> dict[str, Any]:
        """The whole fit as JSON values, with points and resamples; `level` is that of the intervals in it."""
        return document.to_dict(self, level)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], where: str = "the document") -> Self:
        """The fit that `to_dict` wrote, to the bit.

        Raises:
            TableError: It is no fit of this version, incomplete, or its points were changed.
        """
        return cls(**document.read(found, where))
