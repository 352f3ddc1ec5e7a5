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
    where = np.array([[corner.width, corner.tokens] for corner in corners], float)
    at = np.array([place[1:] for place in places], float)
    moving = [k for k in range(2) if len(np.unique(where[:, k])) > 1]
    design, wanted = _design(where, where, moving), _design(at, where, moving)
    rng = np.random.default_rng(seed)
    curves = np.stack([valley.draws(_DRAWS, rng) for _, valley in judged], axis=1)  # [draws, corners, 3]
    best = np.array([[valley.slope, valley.bend, valley.skew] for _, valley in judged])
    tilt, tops = _planes(design, best[None], curves)
    found, draws = _excess(wanted, best[None], tilt[:1], tops[:1]), _excess(wanted, curves, tilt[1:], tops[1:])
    optima, excess = found[0][0], found[1][0]
    ends = [(1 - level) / 2, (1 + level) / 2]
    low_v, high_v = np.nanquantile(draws[0], ends, axis=0)
    low_e, high_e = np.nanquantile(draws[1], ends, axis=0)
    rungs = tuple(
        RungExcess(
            role=role,
            width=width,
            tokens=tokens,
            optimum=math.exp(optima[k]),
            excess=float(excess[k]),
            interval=Interval(
                low=0.0 if low_v[k] <= 0 <= high_v[k] else float(low_e[k]), high=float(high_e[k]), level=level
            ),
            inside=bool(
                where[:, 0].min() <= width <= where[:, 0].max() and where[:, 1].min() <= tokens <= where[:, 1].max()
            ),
        )
        for k, (role, width, tokens) in enumerate(places)
    )
    return _trend(tilt, moving, ends, level), rungs


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


def _design(at: Array, where: Array, moving: list[int]) -> Array:
    """The regression matrix [places, 1 + moving]: 1, and the logs of what varies among the corners, centred on them."""
    logs = np.log(at) - np.log(where).mean(axis=0)
    return np.column_stack([np.ones(len(at)), logs[:, moving]])


def _planes(design: Array, best: Array, curves: Array) -> tuple[Array, Array]:
    """Coefficients [1 + draws, 1 + moving] of log optimum and of log curvature over `design`; the estimate comes first.

    Where the corners depart from the plane by more than their errors, the draws are spread out accordingly.
    """
    both = np.concatenate([best, curves])
    optima = vertices(both.reshape(-1, 3)).reshape(both.shape[:2])
    tops = np.log(np.maximum(both[..., 1] + 3 * both[..., 2] * optima, 1e-6))
    errors = np.nanstd(optima[1:], axis=0) + 1e-12
    solve = np.linalg.pinv(design / errors[:, None]) / errors
    optima = np.where(np.isnan(optima), optima[0], optima)
    tops = np.where(np.isnan(tops), tops[0], tops)
    tilt = optima @ solve.T
    freedom = design.shape[0] - design.shape[1]
    if freedom:
        misfit = float((((optima[0] - design @ tilt[0]) / errors) ** 2).sum()) / freedom
        tilt[1:] = tilt[0] + max(1.0, math.sqrt(misfit)) * (tilt[1:] - tilt[0])
    return tilt, tops @ np.linalg.pinv(design).T


def _excess(wanted: Array, curves: Array, tilt: Array, tops: Array) -> tuple[Array, Array]:
    """Optima in log multiples, and the excess log loss at the rule's own rate, each [draws, places]."""
    optima, curvature = tilt @ wanted.T, np.exp(tops @ wanted.T)
    skew = curves[:, :1, 2]  # the same at every corner
    return optima, np.maximum(curvature * optima**2 - skew * optima**3, 0.0)


def _trend(tilt: Array, moving: list[int], ends: list[float], level: float) -> OptimumTrend:
    powers: dict[str, float | Interval | None] = {}
    for k, name in enumerate(("width", "tokens")):
        if k not in moving:
            powers |= {name: None, f"{name}_interval": None}
            continue
        column = tilt[:, 1 + moving.index(k)]
        low, high = np.quantile(column[1:], ends)
        powers |= {name: float(column[0]), f"{name}_interval": Interval(low=float(low), high=float(high), level=level)}
    return OptimumTrend.model_validate(powers)


def _interval(fit: Fit, parameter: str, level: float) -> Interval:
    low, high = fit.interval(parameter, level)
    return Interval(low=low, high=high, level=level)


def _bias(fit: Fit, corrected: Fit, target: tuple[float, float] | None, excess: float | None) -> float | None:
    if target is None or excess is None or not follows_from_n_and_tokens(fit.law):
        return None
    at = {"n": target[0], "tokens": target[1]}
    return float(fit.predict(**at)[0] / (corrected.predict(**at)[0] * math.exp(excess))) - 1
