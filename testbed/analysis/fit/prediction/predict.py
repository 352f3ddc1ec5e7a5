"""Predictions with intervals that hold beyond the data: universal kriging on a fitted law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from testbed.analysis.fit.estimate import Estimate
from testbed.analysis.fit.prediction.kriging import Kriging, krige
from testbed.analysis.fit.targets import columns_of
from testbed.errors import ConfigError

Array = NDArray[np.float64]

PER_DECADE = 0.015  # relative error of a law per decade of extrapolation, measured on thirteen public tables
FREEDOM = 8  # degrees of freedom of the intervals' Student t: the sizes of the discrepancy are estimates


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted responses of m targets and their uncertainty; every array is [m].

    `mean` is in the response's units (in log space the median). The four `sd_` are independent parts, in
    the space of residuals: relative in log space, else in the response's units. `sd_param` is from the
    law's parameters, `sd_discrepancy` from the law's being no more than nearly right, `sd_noise` the noise
    of the run itself, `sd_extrapolation` a floor of 1.5 % a decade of compute beyond the fitted runs, of
    which there are `gap_decades`. `in_hull` says whether the target is of the fitted kind (see `Domain`).
    """

    mean: Array
    sd_param: Array
    sd_discrepancy: Array
    sd_noise: Array
    sd_extrapolation: Array
    gap_decades: Array
    in_hull: NDArray[np.bool_]
    space: Literal["log", "linear"]
    level: float

    @property
    def sd_mean(self) -> Array:
        """Standard deviation [m] of the mean response, without the noise of a run."""
        return np.sqrt(self.sd_param**2 + self.sd_discrepancy**2 + self.sd_extrapolation**2)

    @property
    def sd_obs(self) -> Array:
        """Standard deviation [m] of the response of one new run."""
        return np.hypot(self.sd_mean, self.sd_noise)

    @property
    def mean_se(self) -> Array:
        """Standard error of the mean in the response's units."""
        return self.mean * self.sd_mean if self.space == "log" else self.sd_mean

    def interval(self, level: float | None = None, kind: Literal["mean", "obs"] = "obs") -> tuple[Array, Array]:
        """Lower and upper ends in the response's units: of what will be observed, or of its mean over seeds."""
        half = student(self.level if level is None else level) * (self.sd_obs if kind == "obs" else self.sd_mean)
        if self.space == "log":
            return self.mean * np.exp(-half), self.mean * np.exp(half)
        return self.mean - half, self.mean + half

    def summary_frame(self, level: float | None = None) -> pd.DataFrame:
        """One row a target: mean, its standard error, both intervals, the parts, and how far away it is."""
        mean_lower, mean_upper = self.interval(level, "mean")
        obs_lower, obs_upper = self.interval(level, "obs")
        return pd.DataFrame(
            {
                "mean": self.mean,
                "mean_se": self.mean_se,
                "mean_ci_lower": mean_lower,
                "mean_ci_upper": mean_upper,
                "obs_ci_lower": obs_lower,
                "obs_ci_upper": obs_upper,
                "sd_param": self.sd_param,
                "sd_discrepancy": self.sd_discrepancy,
                "sd_noise": self.sd_noise,
                "sd_extrapolation": self.sd_extrapolation,
                "gap_decades": self.gap_decades,
                "in_hull": self.in_hull,
            }
        )


def get_prediction(
    fit: Estimate,
    data: pd.DataFrame | Mapping[str, ArrayLike],
    level: float = 0.9,
    noise: float | None = None,
    unit: str = "nats",
    seeds: int = 1,
    kriging: Kriging | None = None,
) -> Prediction:
    """Responses at the law's columns of `data` [m], with intervals of `level`.

    `noise` is the standard deviation between runs that differ only in their seed (relative, in log space).
    Without it that of the table's replicates is used; without replicates all scatter about the law that is not
    smooth counts as noise, or as misfit where rows of one design differ in more than a seed. Scatter beyond a
    measured noise stays in `sd_discrepancy`, since a new run would have it too. `seeds` is the number of runs over
    which the target will be averaged. `unit` is that of the loss: "nats" (per token), for which there are
    published irreducible losses, or another.
    With more than 1000 rows those that fill the space of the law's columns stand for all.

    Raises:
        ConfigError: `level`, `noise` or `seeds` is out of its range.
        TableError: A target lacks a column of the law, or has a value that the law does not take.
    """
    student(level)
    _check_noise(noise, seeds)
    kriging = krige(fit, unit) if kriging is None else kriging
    raw, columns = _prepared(fit, data)
    domain, space = kriging.domain, fit.space
    mean, parameters, discrepancy = kriging.predict(columns, domain.coordinates(raw))
    single, rough = _noise(kriging, noise, bool(fit.differs))
    gap = domain.gap(raw)
    return Prediction(
        mean=np.exp(mean) if space == "log" else mean,
        sd_param=np.sqrt(parameters),
        sd_discrepancy=np.sqrt(discrepancy + rough),
        sd_noise=np.full(len(mean), np.sqrt(single / seeds)),
        sd_extrapolation=PER_DECADE * kriging.covariance.unit * gap,
        gap_decades=gap,
        in_hull=domain.inside(raw),
        space=space,
        level=level,
    )


def student(level: float) -> float:
    """Half-width of an interval of this level in standard deviations."""
    if not 0 < level < 1:
        raise ConfigError(f"level: found {level:g}; accepted: above 0 and below 1")
    return float(stdtrit(FREEDOM, (1 + level) / 2))


def _noise(kriging: Kriging, noise: float | None, differs: bool) -> tuple[float, float]:
    """Variances of one run's noise and of the scatter beyond it: of all scatter where rows of a design differ in a setting."""
    measured = kriging.between if noise is None else noise
    if np.isnan(measured):
        return (0.0, kriging.noise) if differs else (kriging.noise, 0.0)
    return measured**2, max(kriging.noise - measured**2, 0.0)


def _prepared(fit: Estimate, data: pd.DataFrame | Mapping[str, ArrayLike]) -> tuple[dict[str, NDArray[Any]], Any]:
    """The law's columns of the targets, raw and prepared."""
    raw = columns_of(fit.law, fit.columns, data)
    return raw, fit.law.prepare(raw)


def _check_noise(noise: float | None, seeds: int) -> None:
    if noise is not None and not (np.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise: found {noise!r}; accepted: a standard deviation of at least 0")
    if seeds < 1:
        raise ConfigError(f"seeds: found {seeds!r}; accepted: 1 or more")
