"""What `fit_law` gives: an estimate, and the questions that one asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from testbed.analysis.fit import document
from testbed.analysis.fit.diagnostics import Finding, diagnose, doubts
from testbed.analysis.fit.estimate import Estimate
from testbed.analysis.fit.frontier import frontier, solve
from testbed.analysis.fit.intervals import intervals, profile
from testbed.analysis.fit.prediction import Prediction, get_prediction


@dataclass(frozen=True, eq=False)
class Fit(Estimate):
    """A law fitted to a table, in the names of statsmodels; each method asks the module that answers it."""

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
        """What is doubtful: a code, a sentence, the numbers; `raw` is the whole table that was fitted (see `fit.diagnostics`)."""
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
        """The fit as a text of a screenful: what was fitted to what, parameters with errors and intervals, merit."""
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
        """What a response costs: the column that is not given, or FLOPs on the frontier where none is (see `fit.frontier`)."""
        return solve(self, response, given, level)

    def to_dict(self, level: float = 0.9) -> dict[str, Any]:
        """Everything the fit is, as JSON values of 17 digits; `level` is that of the intervals in it."""
        return document.to_dict(self, level)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], where: str = "the document") -> Self:
        """The fit that `to_dict` gave; TableError where it is none or its points were changed."""
        return cls(**document.read(found, where))
