"""How much loss a study's learning rates cost at each of its rungs, from the brackets at a few of its corners.

The logarithm of the best learning rate is taken as linear in the logarithms of width and tokens, and so is that of the
curvature around it. That gives the excess loss at every rung and horizon, and the laws can be fitted to losses
without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.certificate.corners import Corner
from testbed.analysis.certificate.valley import Valley, vertices
from testbed.analysis.fit import Fit
from testbed.analysis.fit.intervals import percentiles
from testbed.analysis.forecast import fit_laws, follows_from_n_and_tokens
from testbed.config import ForecastSettings
from testbed.records import Interval, Record

Array = NDArray[np.float64]

_DRAWS = 2000
EXPONENTS = ("alpha", "beta", "a", "b")  # names of parameters in the laws
_FEWEST_RESAMPLES = 100  # of a refit, whose parameters alone are used


class OptimumTrend(Record):
    """How the best multiple of the rule's rate scales: as width ** `width` and tokens ** `tokens`.

    0 means that the rule needs no correction; None that the corners do not vary in width, or in tokens.
    """

    width: float | None
    width_interval: Interval | None
    tokens: float | None
    tokens_interval: Interval | None


class RungExcess(Record):
    """The excess loss at one width and horizon: log loss at the rule's rate minus that at the best rate.

    `optimum` is the best multiple of the rule's rate, `interval` that of the excess; `inside` says whether the rung lies
    between the bracketed corners.
    """

    role: str
    width: int
    tokens: int
    optimum: float
    excess: float
    interval: Interval
    inside: bool


class Shift(Record):
    """One law's parameters as fitted (`params`, with `intervals`), and fitted to losses without the excess (`corrected`).

    `bias` is the relative effect of the excess on the law's forecast: the prediction of the target from the losses as
    they are, over that from losses without the excess but with the target's own excess added, minus 1. None without
    a target, or for a law that needs more than N and D.
    """

    law: str
    params: dict[str, float]
    intervals: dict[str, Interval]
    corrected: dict[str, float]
    bias: float | None

    @property
    def bent(self) -> tuple[str, ...]:
        """Exponents that lie outside their own intervals once the excess is removed."""
        return tuple(p for p in self.params if p in EXPONENTS and not self.intervals[p].holds(self.corrected[p]))


def excess_at_rungs(
    judged: Sequence[tuple[Corner, Valley]], places: Sequence[tuple[str, int, int]], level: float, seed: int = 0
) -> tuple[OptimumTrend, tuple[RungExcess, ...]] | None:
    """The optimum's trend, and the excess loss at `places` (role, width, tokens).

    `judged` are the corners of one batch with their curves. None unless every optimum lies inside its bracket.
    """
    corners = [corner for corner, _ in judged]
    if any(corner.status != "inside" for corner in corners):
        return None
    at_corners = np.array([[corner.width, corner.tokens] for corner in corners], float)
    at_places = np.array([place[1:] for place in places], float)
    varied = [k for k in range(2) if len(np.unique(at_corners[:, k])) > 1]
    x_corners, x_places = _regressors(at_corners, at_corners, varied), _regressors(at_places, at_corners, varied)
    rng = np.random.default_rng(seed)
    drawn = np.stack([valley.draws(_DRAWS, rng) for _, valley in judged], axis=1)  # [draws, corners, 3]
    fitted = np.array([[[valley.slope, valley.bend, valley.skew] for _, valley in judged]])
    optimum, curvature = _planes(x_corners, fitted, drawn)
    found = _excess(x_places, fitted, optimum[:1], curvature[:1])
    draws = _excess(x_places, drawn, optimum[1:], curvature[1:])
    ends = [(1 - level) / 2, (1 + level) / 2]
    optimum_ends, excess_ends = (np.nanquantile(each, ends, axis=0) for each in draws)
    inside = ((at_places >= at_corners.min(axis=0)) & (at_places <= at_corners.max(axis=0))).all(axis=1)
    rungs = []
    for k, (role, width, tokens) in enumerate(places):
        may_be_best = optimum_ends[0, k] <= 0 <= optimum_ends[1, k]  # the rule's own rate, at log multiple 0
        low, high = 0.0 if may_be_best else float(excess_ends[0, k]), float(excess_ends[1, k])
        rungs.append(
            RungExcess(
                role=role,
                width=width,
                tokens=tokens,
                optimum=math.exp(found[0][0, k]),
                excess=float(found[1][0, k]),
                interval=Interval(low=low, high=high, level=level),
                inside=bool(inside[k]),
            )
        )
    return _trend(optimum, varied, ends, level), tuple(rungs)


def shifts(
    points: pd.DataFrame,
    fits: Mapping[str, Fit],
    rungs: Sequence[RungExcess],
    settings: ForecastSettings,
    where: str,
    target: tuple[float, float] | None,
) -> tuple[Shift, ...]:
    """Each law fitted to the grid's losses, against the same law fitted to losses without the rungs' excess.

    `points` is the study's points table, `fits` are the laws fitted to it, `where` names the study in messages; `target`
    is the target's n and tokens, None without one.
    """
    quick = settings.model_copy(update={"bootstrap": _FEWEST_RESAMPLES})
    excess = {(rung.width, rung.tokens): rung.excess for rung in rungs}
    own = [excess.get((width, tokens), 0.0) for width, tokens in zip(points["width"], points["tokens"], strict=True)]
    corrected = fit_laws(points.assign(loss=points["loss"] * np.exp(-np.array(own))), quick, where)
    at_target = next((rung.excess for rung in rungs if rung.role == "target"), None)
    return tuple(
        Shift(
            law=name,
            params=fit.theta,
            intervals={parameter: _interval(fit, parameter, settings.level) for parameter in fit.theta},
            corrected=corrected[name].theta,
            bias=_bias(fit, corrected[name], target, at_target),
        )
        for name, fit in fits.items()
    )


def _regressors(at: Array, at_corners: Array, varied: list[int]) -> Array:
    """The regressors [places, 1 + varied]: 1, and the logs of what varies among the corners, centred on the corners."""
    logs = np.log(at) - np.log(at_corners).mean(axis=0)
    return np.column_stack([np.ones(len(at)), logs[:, varied]])


def _planes(x: Array, fitted: Array, drawn: Array) -> tuple[Array, Array]:
    """Regressions of log optimum and of log curvature on x, coefficients [1 + draws, 1 + varied]; the estimate is first.

    `fitted` [1, corners, 3] are the corners' curves and `drawn` [draws, corners, 3] plausible ones. Where the corners
    depart from a plane by more than their errors, the draws of its coefficients are spread out accordingly.
    """
    curves = np.concatenate([fitted, drawn])
    optima = vertices(curves.reshape(-1, 3)).reshape(curves.shape[:2])
    curvatures = np.log(np.maximum(curves[..., 1] + 3 * curves[..., 2] * optima, 1e-6))
    errors = np.nanstd(optima[1:], axis=0) + 1e-12
    optima = np.where(np.isnan(optima), optima[0], optima)
    curvatures = np.where(np.isnan(curvatures), curvatures[0], curvatures)
    plane = optima @ (np.linalg.pinv(x / errors[:, None]) / errors).T
    freedom = x.shape[0] - x.shape[1]
    if freedom:
        misfit = float((((optima[0] - x @ plane[0]) / errors) ** 2).sum()) / freedom
        plane[1:] = plane[0] + max(1.0, math.sqrt(misfit)) * (plane[1:] - plane[0])
    return plane, curvatures @ np.linalg.pinv(x).T


def _excess(x: Array, curves: Array, optimum: Array, curvature: Array) -> tuple[Array, Array]:
    """Optima in log multiples, and the excess log loss at the rule's own rate, each [draws, places].

    `optimum` and `curvature` are coefficients on x, as `_planes` gives them; the cubic term is that of the curves.
    """
    at, bend = optimum @ x.T, np.exp(curvature @ x.T)
    skew = curves[:, :1, 2]  # the same at every corner
    return at, np.maximum(bend * at**2 - skew * at**3, 0.0)


def _trend(optimum: Array, varied: list[int], ends: list[float], level: float) -> OptimumTrend:
    powers: dict[str, float | Interval | None] = {}
    for k, name in enumerate(("width", "tokens")):
        if k not in varied:
            powers |= {name: None, f"{name}_interval": None}
            continue
        column = optimum[:, 1 + varied.index(k)]
        low, high = np.quantile(column[1:], ends)
        powers |= {name: float(column[0]), f"{name}_interval": Interval(low=float(low), high=float(high), level=level)}
    return OptimumTrend.model_validate(powers)


def _interval(fit: Fit, parameter: str, level: float) -> Interval:
    bounds = percentiles(fit, level)
    return Interval(low=float(bounds["low"][parameter]), high=float(bounds["high"][parameter]), level=level)


def _bias(fit: Fit, corrected: Fit, target: tuple[float, float] | None, excess: float | None) -> float | None:
    if target is None or excess is None or not follows_from_n_and_tokens(fit.law):
        return None
    at = {"n": target[0], "tokens": target[1]}
    return float(fit.predict(**at)[0] / (corrected.predict(**at)[0] * math.exp(excess))) - 1
