"""Intervals of a fit's parameters: percentiles of resampled runs, BCa, and profiles of the objective.

Percentiles over resamples of whole runs are the default: in simulation only they have their nominal coverage
where errors differ in size or share a run. A profile assumes independent errors of one distribution.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from testbed.analysis.fit.estimate import Estimate
from testbed.errors import ConfigError

Array = NDArray[np.float64]
Method = Literal["percentile", "bca", "profile"]

_WIDEST = 64.0  # standard errors within which a profile's ends are searched
_NEAREST = 3  # nearest resamples that a profile's solves also start from
LEAST_RESAMPLES = 20
_LEAST_CONVERGED = 0.5  # of the resamples, below which their percentiles are no interval


def intervals(fit: Estimate, level: float, method: Method) -> pd.DataFrame:
    """Columns low and high, a row a parameter; a parameter that is held has its value in both.

    By resampling they are nan where the fits of fewer than half of the resamples converged.

    Raises:
        ConfigError: `level` or `method` is unknown, or the fit has too few resamples for an interval by them.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level: found {level:g}; accepted: above 0 and below 1")
    ways = {"percentile": _percentile, "bca": _bca, "profile": _profiled}
    if method not in ways:
        raise ConfigError(f"method: found {method!r}; accepted: {', '.join(ways)}")
    low, high = ways[method](fit, level)
    if method != "profile" and not resamples_hold(fit):
        held = np.array([name in fit.fixed for name in fit.theta])
        low, high = np.where(held, low, np.nan), np.where(held, high, np.nan)
    return _frame(fit, low, high)


def percentiles(fit: Estimate, level: float) -> pd.DataFrame:
    """Columns low and high of all resamples, whether or not their fits converged."""
    return _frame(fit, *_percentile(fit, level))


def resamples_hold(fit: Estimate) -> bool:
    """Whether enough of the resamples' fits converged for their percentiles to be an interval."""
    return len(fit.resamples) == 0 or float(fit.resamples_converged.mean()) >= _LEAST_CONVERGED


def _frame(fit: Estimate, low: Array, high: Array) -> pd.DataFrame:
    signed = np.array([p.role == "real" for p in fit.law.parameters])
    return pd.DataFrame({"low": np.where(signed, low, np.maximum(low, 0)), "high": high}, index=list(fit.theta))


def profile(fit: Estimate, name: str, values: Array) -> Array:
    """Twice the rise of the objective [m] when parameter `name` is held at values [m], in units of chi-square.

    The unit is mean(psi^2) / mean(psi'), so that the rise is asymptotically chi-square with one degree of
    freedom for independent errors of one distribution (Huber and Ronchetti, Robust Statistics, 2009, 13.6).

    Raises:
        ConfigError: `name` is not a free parameter.
    """
    free = [p.name for p in fit.problem.coordinates.free]
    if name not in free:
        raise ConfigError(f"profile: {name!r} is not a free parameter of {fit.law.name}; accepted: {', '.join(free)}")
    centre = fit.theta[name]
    rise = np.empty(len(values))
    for side in (values >= centre, values < centre):  # outward from the estimate, each from its neighbour's optimum
        theta = dict(fit.theta)
        for k in np.flatnonzero(side)[np.argsort(np.abs(values[side] - centre), kind="stable")]:
            rise[k], theta = _held(fit, name, float(values[k]), theta)
    return rise / _unit(fit)


def _percentile(fit: Estimate, level: float) -> tuple[Array, Array]:
    low, high = np.quantile(_widened(fit), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _bca(fit: Estimate, level: float) -> tuple[Array, Array]:
    """Bias-corrected and accelerated percentiles (Efron, JASA 82, 1987), the acceleration from leaving out runs."""
    draws, centre = _widened(fit), np.array(list(fit.theta.values()))
    left_out = fit.influence().to_numpy()
    skewed = left_out.mean(axis=0) - left_out
    acceleration = (skewed**3).sum(axis=0) / np.maximum(6 * (skewed**2).sum(axis=0) ** 1.5, 1e-300)
    normal = NormalDist()
    ends = np.empty((2, len(centre)))
    for k in range(len(centre)):
        below = np.clip((draws[:, k] < centre[k]).mean(), 0.5 / len(draws), 1 - 0.5 / len(draws))
        bias = normal.inv_cdf(float(below))
        for side, share in enumerate(((1 - level) / 2, (1 + level) / 2)):
            z = bias + normal.inv_cdf(share)
            ends[side, k] = np.quantile(draws[:, k], normal.cdf(bias + z / (1 - acceleration[k] * z)))
    return ends[0], ends[1]


def _profiled(fit: Estimate, level: float) -> tuple[Array, Array]:
    ends = [
        (value, value) if name in fit.fixed else _profile_ends(fit, name, level) for name, value in fit.theta.items()
    ]
    return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def _profile_ends(fit: Estimate, name: str, level: float) -> tuple[float, float]:
    """Where the profile of one parameter crosses the chi-square quantile; the domain's edge or infinity where it never does."""
    threshold = NormalDist().inv_cdf((1 + level) / 2) ** 2 * _unit(fit)
    centre = fit.theta[name]
    positive = next(p for p in fit.law.parameters if p.name == name).role != "real"
    step = float(fit.bse[name]) if len(fit.resamples) > 1 else 0.1 * abs(centre)
    step = step if np.isfinite(step) and step > 0 else 1e-3 * abs(centre) or 1e-3
    ends = []
    for sign in (-1, 1):
        theta, inner, outer = dict(fit.theta), centre, None
        size = step / 2
        while size <= _WIDEST * step:
            at = centre + sign * size
            at = max(at, inner / 2) if positive else at
            rise, reached = _held(fit, name, at, theta)
            if rise > threshold:
                outer = at
                break
            theta, inner, size = reached, at, 2 * size
        ends.append(_crossing(fit, name, inner, outer, theta, threshold) if outer is not None else sign * np.inf)
    return (0.0 if positive and ends[0] == -np.inf else ends[0]), ends[1]


def _crossing(fit: Estimate, name: str, inner: float, outer: float, theta: dict[str, float], threshold: float) -> float:
    return float(
        scipy.optimize.brentq(
            lambda at: _held(fit, name, at, theta)[0] - threshold, inner, outer, xtol=1e-12, rtol=1e-6
        )
    )


def _held(fit: Estimate, name: str, value: float, start: dict[str, float]) -> tuple[float, dict[str, float]]:
    """Twice the rise of the objective with one parameter held, and the other parameters' best values.

    Solved from `start`, from the estimate and from the resamples that came nearest to the value: robust
    losses have local minima, and from one start alone the solver is now and then caught in one.
    """
    problem = fit.problem
    coordinates = replace(problem.coordinates, fixed={**fit.fixed, name: value})
    held = replace(problem, coordinates=coordinates)
    starts = [start, fit.theta, *_nearest(fit, name, value)]
    phi = np.array([coordinates.coordinates({**each, name: value}) for each in starts])
    y = fit.rows.y
    found = held.solve(y, np.ones((len(phi), len(y))), phi)
    best = int(np.argmin(np.where(np.isfinite(found.objective), found.objective, np.inf)))
    return 2 * max(float(found.objective[best]) - fit.objective, 0.0), coordinates.theta(found.phi[best])


def _nearest(fit: Estimate, name: str, value: float) -> list[dict[str, float]]:
    """The parameters of the resamples in which one came nearest to a value."""
    near = np.argsort(np.abs(fit.resamples[:, list(fit.theta).index(name)] - value), kind="stable")[:_NEAREST]
    return [dict(zip(fit.theta, row, strict=True)) for row in fit.resamples[near].tolist()]


def _unit(fit: Estimate) -> float:
    """The divisor that makes twice the objective's rise asymptotically chi-square."""
    if fit.loss == "huber-likelihood":
        return 1.0
    if fit.loss == "ls":
        return float((fit.resid**2).sum() / max(fit.df_resid, 1))
    if fit.loss == "lad":  # Koenker and Machado (1999): the sparsity from the middle half of the residuals
        low, high = np.quantile(fit.resid, [0.25, 0.75])
        return max(float(high - low), 1e-300)
    psi = np.clip(fit.resid, -fit.delta, fit.delta)
    inside = max(float((np.abs(fit.resid) <= fit.delta).mean()), 1 / fit.nobs)
    return max(float((psi**2).mean()) / inside, 1e-300)


def _widened(fit: Estimate) -> Array:
    """Resamples [n_boot, p] with their spread about the estimate inflated for the finite number of seeds."""
    if len(fit.resamples) < LEAST_RESAMPLES:
        raise ConfigError(
            f"{fit.law.name} was fitted with n_boot={len(fit.resamples)}; "
            f"an interval by resampling needs at least {LEAST_RESAMPLES}"
        )
    centre = np.array(list(fit.theta.values()))
    return np.asarray(centre + fit.rows.inflation * (fit.resamples - centre))
