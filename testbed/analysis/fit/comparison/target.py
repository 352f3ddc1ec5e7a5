"""The prediction of a target by one law, and how far several laws agree on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.fit.diagnostics.cautions import far_target
from testbed.analysis.fit.diagnostics.finding import Finding
from testbed.analysis.fit.prediction.predict import student
from testbed.analysis.fit.result import Fit

_ROBUST_FROM = 4  # laws


@dataclass(frozen=True)
class TargetPrediction:
    """The predicted response of a target with the interval of one run, in the response's units.

    `sd_kriging` is that of the recommended law's prediction and `spread` the standard deviation between the
    laws' own predictions, whose median is `median`; both in the space of residuals (from four laws on the
    spread is their interquartile range over 1.349, so that one wild law does not make it). `widened` says
    that the spread was the larger of the two, and was added in quadrature. `relative` says that residuals
    are of logs.
    """

    law: str
    predicted: float
    low: float
    high: float
    sd_kriging: float
    spread: float
    median: float
    widened: bool
    relative: bool

    def sentence(self, level: float) -> str:
        """The prediction as a sentence."""
        said = f"{self.predicted:.4g} ({100 * level:.3g} % interval {self.low:.4g} to {self.high:.4g})"
        shown = f"{100 * self.spread:.2g} %" if self.relative else f"{self.spread:.2g}"
        more = "; since that is more than the interval would allow it was widened" if self.widened else ""
        return (
            f"The target: {said}, by {self.law} and its discrepancy. The laws' median is {self.median:.4g}, "
            f"their spread {shown}{more}."
        )

    def to_dict(self) -> dict[str, Any]:
        """The prediction as JSON values; null for nan."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def predict_target(
    fit: Fit, target: Mapping[str, float], by_law: Sequence[float], level: float, unit: str
) -> tuple[TargetPrediction, tuple[Finding, ...]]:
    """The prediction by `fit`'s law beside the plain ones of several laws, and a warning where the target is far."""
    log = fit.space == "log"
    prediction = fit.get_prediction(target, level, unit=unit)
    others = np.array([value for value in by_law if np.isfinite(value) and (value > 0 or not log)])
    places = np.log(others) if log else others
    spread = _spread(places)
    own = float(prediction.sd_obs[0])
    widened = spread > own
    half = student(level) * (np.hypot(own, spread) if widened else own)
    mean = float(prediction.mean[0])
    low, high = (mean * np.exp(-half), mean * np.exp(half)) if log else (mean - half, mean + half)
    found = TargetPrediction(
        law=fit.law.name,
        predicted=mean,
        low=float(low),
        high=float(high),
        sd_kriging=own,
        spread=spread,
        median=float(np.median(others)) if len(others) else np.nan,
        widened=bool(widened),
        relative=log,
    )
    return found, far_target(prediction)


def _spread(places: NDArray[np.float64]) -> float:
    if len(places) < 2:
        return 0.0
    if len(places) < _ROBUST_FROM:
        return float(places.std(ddof=1))
    low, high = np.quantile(places, [0.25, 0.75])
    return float((high - low) / 1.349)
