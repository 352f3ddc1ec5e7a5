"""Many robust fits at once: damped Newton on the exact generalised Hessian (see `kernels`).

With a small delta the objective is almost a sum of absolute deviations, where first-order methods
crawl; the generalised Hessian finds the active points and then converges quadratically. Least absolute
deviations and the Huber likelihood are reached from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from testbed.analysis.fit.kernels import Kernel

Array = NDArray[np.float64]

_LONGEST = 2.0  # of a step, in coordinates
_LOST = 1e15  # damping at which a search is given up
_TINY = 1e-12  # an objective below this counts as this: noiseless points
_SECTIONS = 36  # of a bracket: to 3e-8 of its width
_LAD_PATH = 1e-3 * 3.0 ** -np.arange(1.0, 12.0)  # deltas on the way to 0


@dataclass(frozen=True)
class Minimum:
    """Where each search of the batch ended: coordinates [B, p], objective [B], converged [B]."""

    phi: Array
    objective: Array
    converged: NDArray[np.bool_]


def minimise(
    kernel: Kernel,
    y: Array,
    weights: Array,
    starts: Array,
    delta: Array | float,
    steps: int = 200,
    tolerance: float = 1e-15,
) -> Minimum:
    """Minimise from each start [B, p]; `y` and `weights` are [n] or [B, n], `delta` a number or [B].

    A search has converged when its Newton step promises less than `tolerance` of its objective.
    """
    batch, n = len(starts), y.shape[-1]
    low, high = kernel.coordinates.bounds
    weights = np.broadcast_to(weights, (batch, n))
    width = np.broadcast_to(np.asarray(delta, np.float64), batch)
    best = np.clip(starts, low, high)
    objective, converged = np.full(batch, np.inf), np.zeros(batch, bool)
    rows, phi, damping = np.arange(batch), best.copy(), np.full(batch, 1e-3)
    value, gradient, hessian = kernel.evaluate(phi, y, weights, width)
    for _ in range(steps):
        g, h = _free(phi, gradient, hessian, low, high)
        step, damping = _newton_step(g, h, damping)
        trial = np.clip(phi + step, low, high)
        promised = -np.einsum("pb,bp->b", g, trial - phi)
        reached = kernel.evaluate(trial, y, weights, width)
        good = reached[0] <= value
        # a step cut at a bound may promise a rise: that is no rest, and more damping turns it downhill
        small = np.abs(promised) <= tolerance * np.maximum(value, _TINY)
        phi = np.where(good[:, None], trial, phi)
        value = np.where(good, reached[0], value)
        gradient = np.where(good, reached[1], gradient)
        hessian = np.where(good, reached[2], hessian)
        damping = np.where(good, np.where(damping < 1e-9, 0.0, damping / 10), np.maximum(8 * damping, 1e-6))
        done = small | (damping > _LOST) | ~np.isfinite(value)
        if done.any():
            ended, keep = rows[done], ~done
            best[ended], objective[ended] = phi[done], value[done]
            converged[ended] = small[done] & np.isfinite(value[done])
            rows, phi, value, damping = rows[keep], phi[keep], value[keep], damping[keep]
            gradient, hessian = gradient[:, keep], hessian[:, :, keep]
            weights, width = weights[keep], width[keep]
            y = y if y.ndim == 1 else y[keep]
            if rows.size == 0:
                break
    best[rows], objective[rows] = phi, value
    return Minimum(best, objective, converged)


def follow(
    kernel: Kernel,
    y: Array,
    weights: Array,
    starts: Array,
    path: Iterable[float],
    steps: int = 30,
    tolerance: float = 1e-5,
) -> Array:
    """Lead starts [B, p] through a path of deltas, each minimised to `tolerance`; coordinates [B, p]."""
    for delta in path:
        starts = minimise(kernel, y, weights, starts, delta, steps, tolerance).phi
    return starts


def least_absolute(kernel: Kernel, y: Array, weights: Array, starts: Array) -> Minimum:
    """Least absolute deviations from starts near a Huber optimum: delta to 0, then the vertex exactly.

    At the optimum as many points as free coordinates are met exactly; those are solved for.
    """
    phi = follow(kernel, y, weights, starts, _LAD_PATH, 100, 1e-12)
    found = minimise(kernel, y, weights, phi, float(_LAD_PATH[-1]))
    weights = np.broadcast_to(weights, (len(starts), y.shape[-1]))
    phi, objective = found.phi.copy(), np.empty(len(phi))
    for b in range(len(phi)):
        own = y if y.ndim == 1 else y[b]
        phi[b], objective[b] = _vertex(kernel, own, weights[b], phi[b])
    return Minimum(phi, objective, found.converged)


def huber_likelihood(kernel: Kernel, y: Array, weights: Array, starts: Array, delta: float) -> Minimum:
    """Maximum likelihood of residuals with Huber's density and a free scale sigma (arXiv:2404.10102, section 3.1).

    The objective is the negative log-likelihood, sum_i w_i (H_delta(r_i / sigma) + log sigma + log Z). For
    a given sigma it is a Huber fit of width delta sigma; log sigma is found by `bracketed_minimum`.
    """
    total = np.broadcast_to(weights, (len(starts), y.shape[-1])).sum(axis=1)
    normaliser = _log_normaliser(delta)

    def profile(log_sigma: Array, near: Minimum) -> tuple[Array, Minimum]:
        sigma = np.exp(log_sigma)
        found = minimise(kernel, y, weights, near.phi, delta * sigma, 60, 1e-13)
        return found.objective / sigma**2 + total * (log_sigma + normaliser), found

    spread = np.sqrt(2 * minimise(kernel, y, weights, starts, np.inf).objective / total)
    absolute = least_absolute(kernel, y, weights, starts)
    low = np.log(np.maximum(delta * absolute.objective / total, 1e-14)) - 3.0
    high = np.log(np.maximum(spread, 1e-13)) + 1.0
    value, found = profile(*bracketed_minimum(profile, low, high, absolute))
    return Minimum(found.phi, value, found.converged)


def bracketed_minimum(
    f: Callable[[Array, Minimum], tuple[Array, Minimum]], low: Array, high: Array, near: Minimum
) -> tuple[Array, Minimum]:
    """Where functions with one minimum each between low and high [B] are lowest [B], by golden section.

    `f` maps places [B] and the inner solution of the last place, `near` at first, to values [B] and the
    inner solution there; the last inner solution is returned beside the places.
    """
    golden = (np.sqrt(5) - 1) / 2
    inner, outer = high - golden * (high - low), low + golden * (high - low)
    at_inner, near = f(inner, near)
    at_outer, near = f(outer, near)
    for _ in range(_SECTIONS):
        left = at_inner < at_outer
        low, high = np.where(left, low, inner), np.where(left, outer, high)
        fresh = np.where(left, high - golden * (high - low), low + golden * (high - low))
        at_fresh, near = f(fresh, near)
        inner, outer = np.where(left, fresh, outer), np.where(left, inner, fresh)
        at_inner, at_outer = np.where(left, at_fresh, at_outer), np.where(left, at_inner, at_fresh)
    return (low + high) / 2, near


def _log_normaliser(delta: float) -> float:
    """Log of the integral of exp(-H_delta)."""
    return float(
        np.log(np.sqrt(2 * np.pi) * scipy.special.erf(delta / np.sqrt(2)) + 2 / delta * np.exp(-(delta**2) / 2))
    )


def _vertex(kernel: Kernel, y: Array, weights: Array, phi: Array) -> tuple[Array, float]:
    def residuals(at: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(y - kernel.coordinates.response(at[None], kernel.columns)[0], np.float64)

    def objective(at: Array) -> float:
        with np.errstate(invalid="ignore"):
            total = float(weights @ np.abs(residuals(at)))
        return total if np.isfinite(total) else np.inf

    order = np.argsort(np.where(weights > 0, np.abs(residuals(phi)), np.inf), kind="stable")
    active = order[: phi.size]
    at = phi
    for _ in range(8):
        with np.errstate(all="ignore"):
            jacobian = kernel.coordinates.slopes(at[None], kernel.columns)[0][:, active].T
        if not np.isfinite(jacobian).all():
            break  # a step went where the law has no value
        step, *_ = np.linalg.lstsq(jacobian, residuals(at)[active], rcond=None)
        at = np.clip(at + np.clip(step, -_LONGEST, _LONGEST), *kernel.coordinates.bounds)
    reached, before = objective(at), objective(phi)
    return (at, reached) if reached <= before else (phi, before)


def _free(phi: Array, gradient: Array, hessian: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Gradient and Hessian without the coordinates that stand at a bound and would leave it."""
    at_low, at_high = (phi <= low).T, (phi >= high).T
    held = np.where(gradient > 0, at_low, (gradient < 0) & at_high)
    if not held.any():
        return gradient, hessian
    crossed = held[:, None] | held[None]
    identity = np.eye(len(held))[:, :, None] * np.ones(len(phi))
    return np.where(held, 0.0, gradient), np.where(crossed, identity, hessian)


def _newton_step(gradient: Array, hessian: Array, damping: Array) -> tuple[Array, Array]:
    """-(H + damping |diag H|)^-1 g [B, p], with the damping raised until the matrix is positive definite."""
    p = len(gradient)
    diagonal = np.maximum(np.abs(np.einsum("ppb->pb", hessian)), 1e-10)
    damping = damping.copy()
    step, definite = _solve(gradient, hessian, damping * diagonal, diagonal)
    for _ in range(40):
        if definite.all():
            break
        again = np.flatnonzero(~definite)
        damping[again] = np.maximum(8 * damping[again], 1e-6)
        step[:, again], definite[again] = _solve(
            gradient[:, again], hessian[:, :, again], damping[again] * diagonal[:, again], diagonal[:, again]
        )
    step = np.where(definite & np.isfinite(step).all(axis=0), step, 0.0)
    longest = np.abs(step).max(axis=0) if p else np.zeros(len(damping))
    step *= np.minimum(1.0, _LONGEST / np.maximum(longest, 1e-300))
    return np.ascontiguousarray(step.T), damping


def _solve(gradient: Array, hessian: Array, ridge: Array, diagonal: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Solve (H + diag(ridge)) x = -g for the whole batch by LDL'; says where the matrix is positive definite."""
    p, batch = gradient.shape
    lower: list[list[Array]] = [[] for _ in range(p)]
    pivots: list[Array] = []
    definite = np.ones(batch, bool)
    with np.errstate(all="ignore"):
        for j in range(p):
            pivot = hessian[j, j] + ridge[j]
            for k in range(j):
                pivot = pivot - lower[j][k] ** 2 * pivots[k]
            good = pivot > 1e-14 * diagonal[j]
            definite &= good
            pivots.append(np.where(good, pivot, 1.0))
            for i in range(j + 1, p):
                entry = hessian[i, j]
                for k in range(j):
                    entry = entry - lower[i][k] * lower[j][k] * pivots[k]
                lower[i].append(entry / pivots[j])
        x: list[Array] = []
        for i in range(p):
            entry = -gradient[i]
            for k in range(i):
                entry = entry - lower[i][k] * x[k]
            x.append(entry)
        for i in reversed(range(p)):
            x[i] = x[i] / pivots[i]
            for k in range(i + 1, p):
                x[i] = x[i] - lower[k][i] * x[k]
    return np.stack(x), definite
