"""Robust least squares of many fits at once: damped Newton on the exact generalised Hessian.

Minimises sum_i w_i H(y_i - f(phi; x_i)) with Huber's H (quadratic to delta, linear beyond;
arXiv:2203.15556, appendix D.2) over a batch of starts or resamples. With a small delta the problem is
almost least absolute deviations, where first-order methods crawl; the generalised Hessian
(J' W 1[|r| <= delta] J minus the second derivatives weighted by psi) finds the active points and then
converges quadratically.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.fit.coordinates import Coordinates
from testbed.laws import Columns

Array = NDArray[np.float64]

_STEP = 1e-5
_LONGEST = 2.0
_ELEMENTS = 1 << 15  # of [rows, n] arrays at a time, so that they stay in the cache


@dataclass(frozen=True)
class Minimum:
    """Where each search of the batch ended: coordinates [B, p], objective [B], converged [B]."""

    phi: Array
    objective: Array
    converged: NDArray[np.bool_]


def minimise(
    coordinates: Coordinates, columns: Columns, y: Array, weights: Array, starts: Array, delta: float, steps: int = 200
) -> Minimum:
    """Minimise from each start [B, p]; `y` and `weights` are [n] or [B, n], logs of the loss and its weights."""
    batch, n = len(starts), y.shape[-1]
    y, weights = np.broadcast_to(y, (batch, n)), np.broadcast_to(weights, (batch, n))
    chunk = max(16, _ELEMENTS // n)
    parts = [
        _minimise(_Objective(coordinates, columns, y[rows], weights[rows], delta), starts[rows], steps)
        for rows in (slice(i, i + chunk) for i in range(0, batch, chunk))
    ]
    return Minimum(
        np.concatenate([p.phi for p in parts]),
        np.concatenate([p.objective for p in parts]),
        np.concatenate([p.converged for p in parts]),
    )


def global_minimum(
    coordinates: Coordinates, columns: Columns, y: Array, weights: Array, delta: float, seed: int, starts: int = 24
) -> tuple[Array, float, bool]:
    """Coordinates [p], objective and convergence of the best of many starts, each led from least squares to `delta`."""
    phi = coordinates.starts(starts, np.random.default_rng(seed))
    for wide in (1e3, 3e-2, 6e-3):
        if wide > delta:
            phi = minimise(coordinates, columns, y, weights, phi, wide, steps=30).phi
    found = minimise(coordinates, columns, y, weights, phi, delta)
    best = int(np.argmin(np.where(np.isfinite(found.objective), found.objective, np.inf)))
    return found.phi[best], float(found.objective[best]), bool(found.converged[best])


@dataclass(frozen=True)
class _Objective:
    coordinates: Coordinates
    columns: Columns
    y: Array
    weights: Array
    delta: float

    def take(self, rows: NDArray[np.generic]) -> _Objective:
        return _Objective(self.coordinates, self.columns, self.y[rows], self.weights[rows], self.delta)

    def value(self, phi: Array) -> Array:
        """Objective [B]; infinite where the law overflows."""
        with np.errstate(all="ignore"):
            r = self.y - self.coordinates.log_loss(phi, self.columns)
            psi = np.clip(r, -self.delta, self.delta)
            total = (self.weights * psi * (r - psi / 2)).sum(axis=1)
        return np.where(np.isfinite(total), total, np.inf)

    def derivatives(self, phi: Array) -> tuple[Array, Array]:
        """Gradient [B, p] and generalised Hessian [B, p, p]."""
        with np.errstate(all="ignore"):
            jacobian = self.coordinates.slopes(phi, self.columns)  # [B, p, n]
            r = self.y - self.coordinates.log_loss(phi, self.columns)
            psi = np.clip(r, -self.delta, self.delta)
            pull = (self.weights * psi)[:, :, None]
            inside = self.weights * (np.abs(r) <= self.delta)
            gradient = -(jacobian @ pull)[:, :, 0]
            hessian = (jacobian * inside[:, None]) @ jacobian.transpose(0, 2, 1)
            bend = np.empty_like(hessian)  # second derivatives of the law, pulled by the residuals
            for k in range(phi.shape[1]):
                ahead = self.coordinates.slopes(_moved(phi, k, _STEP), self.columns)
                behind = self.coordinates.slopes(_moved(phi, k, -_STEP), self.columns)
                bend[:, :, k] = ((ahead - behind) @ pull)[:, :, 0] / (2 * _STEP)
        return gradient, hessian - (bend + bend.transpose(0, 2, 1)) / 2


def _minimise(objective: _Objective, phi: Array, steps: int) -> Minimum:
    low, high = objective.coordinates.bounds
    phi = np.clip(phi, low, high)
    value = objective.value(phi)
    damping = np.full(len(phi), 1e-3)
    converged = np.zeros(len(phi), bool)
    active = np.flatnonzero(np.isfinite(value))
    for _ in range(steps):
        if active.size == 0:
            break
        part = objective.take(active)
        gradient, hessian = _free(phi[active], *part.derivatives(phi[active]), low, high)
        waiting = np.arange(active.size)  # rows of `active` still looking for a step that goes down
        done = np.zeros(active.size, bool)
        while waiting.size:
            rows = active[waiting]
            step = _newton_step(gradient[waiting], hessian[waiting], damping[rows])
            trial = np.clip(phi[rows] + step, low, high)
            expected = -(gradient[waiting] * (trial - phi[rows])).sum(axis=1)
            reached = part.take(waiting).value(trial)
            small = expected <= 1e-15 * np.maximum(value[rows], 1e-12)
            good = reached <= value[rows]
            phi[rows[good]], value[rows[good]] = trial[good], reached[good]
            damping[rows] = np.where(
                good, np.where(damping[rows] < 1e-9, 0, damping[rows] / 10), _raised(damping[rows])
            )
            lost = damping[rows] > 1e12
            done[waiting[small | lost]] = True
            converged[rows[small]] = True
            waiting = waiting[~(good | small | lost)]
        active = active[~done]
    return Minimum(phi, value, converged)


def _raised(damping: Array) -> Array:
    return np.maximum(8 * damping, 1e-6)


def _free(phi: Array, gradient: Array, hessian: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Gradient and Hessian without the coordinates that stand at a bound and would leave it."""
    held = np.where(gradient > 0, phi <= low, (gradient < 0) & (phi >= high))
    rows, columns = np.expand_dims(held, 2), np.expand_dims(held, 1)
    return np.where(held, 0.0, gradient), np.where(rows | columns, np.eye(phi.shape[1]) * rows, hessian)


def _newton_step(gradient: Array, hessian: Array, damping: Array) -> Array:
    """-H^-1 g [B, p] after scaling H to a unit diagonal, with its eigenvalues made positive and damped."""
    finite = np.isfinite(hessian.sum(axis=(1, 2)) + gradient.sum(axis=1))
    gradient = np.where(finite[:, None], gradient, 0.0)
    hessian = np.where(finite[:, None, None], hessian, np.eye(gradient.shape[1]))
    scale = np.sqrt(np.maximum(np.abs(np.einsum("bpp->bp", hessian)), 1e-10))
    values, vectors = np.linalg.eigh(hessian / (scale[:, :, None] * scale[:, None, :]))
    along = np.einsum("bpq,bp->bq", vectors, gradient / scale)
    along /= np.maximum(np.abs(values), 1e-12) + damping[:, None]
    step: Array = -np.einsum("bpq,bq->bp", vectors, along) / scale
    longest = np.abs(step).max(axis=1, keepdims=True)
    shortened: Array = step * np.minimum(1.0, _LONGEST / np.maximum(longest, 1e-300))
    return shortened


def _moved(phi: Array, k: int, by: float) -> Array:
    moved = phi.copy()
    moved[:, k] += by
    return moved
