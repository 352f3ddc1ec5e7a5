"""The global search: starts spread over the parameters, led to the objective through a falling delta.

Non-linear parameters are spread evenly over their start ranges; the linear ones are then solved for in
closed form by non-negative weighted least squares (relative errors, where residuals are of logs). The
best of these are led to the objective through a falling delta. With few rows and a small delta there
are optima beside that path: it is restarted from fits to resampled rows (Wood, Biometrics 57, 2001)
until no round of them finds anything lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.fit.coordinates import Coordinates
from testbed.analysis.fit.kernels import Kernel, kernel_of
from testbed.analysis.fit.solver import Minimum, follow, minimise

Array = NDArray[np.float64]

_PATH = (1e3, 3e-2, 6e-3)  # deltas, of a spread of 1 in log space
_RESTARTS, _ROUNDS = 24, 6  # fits to resampled rows a round, and rounds at most
_ENOUGH = 3000  # rows that suffice to choose among starts


@dataclass(frozen=True)
class Search:
    """Outcome of a global search: starts refined, how many reached the best optimum, and how many optima were found."""

    starts: int
    reached: int
    optima: int


def global_minimum(kernel: Kernel, y: Array, weights: Array, delta: float, unit: float = 1.0) -> tuple[Minimum, Search]:
    """The best minimum [1] of `delta` over many starts; `unit` is the size of residuals that a delta of 1 means."""
    some, few, few_weights = _thinned(kernel, y, weights)
    starts = best_starts(some, few, few_weights)
    path = [wide * unit for wide in _PATH if wide * unit > delta]
    phi = follow(some, few, few_weights, starts, path)
    found = _restarted(some, few, few_weights, minimise(some, few, few_weights, phi, delta), delta)
    lowest = found.objective.min()
    near = found.objective <= lowest + 1e-6 * abs(lowest) + 1e-15
    search = Search(len(found.phi), int(near.sum()), _distinct(found))
    best = found.phi[[int(np.argmin(found.objective))]]
    if some is not kernel:
        found = minimise(kernel, y, weights, best, delta)
    best_row = int(np.argmin(found.objective))
    return Minimum(found.phi[[best_row]], found.objective[[best_row]], found.converged[[best_row]]), search


def _restarted(kernel: Kernel, y: Array, weights: Array, found: Minimum, delta: float) -> Minimum:
    """All searches, with rounds of restarts from the best of them."""
    if not np.isfinite(delta) and found.converged.all() and _distinct(found) == 1:
        return found  # smooth, and all starts agree
    rng = np.random.default_rng(0)
    for _ in range(_ROUNDS):
        best = int(np.argmin(found.objective))
        start = np.repeat(found.phi[[best]], _RESTARTS, axis=0)
        resampled = weights * rng.exponential(size=(_RESTARTS, len(y)))
        moved = minimise(kernel, y, resampled, start, delta, 40, 1e-6).phi
        again = minimise(kernel, y, weights, moved, delta)
        lower = again.objective.min() < found.objective[best] * (1 - 1e-9)
        found = Minimum(*(np.concatenate(pair) for pair in zip(_parts(found), _parts(again), strict=True)))
        if not lower:
            break
    return found


def _parts(found: Minimum) -> tuple[Array, Array, NDArray[np.bool_]]:
    return found.phi, found.objective, found.converged


def best_starts(kernel: Kernel, y: Array, weights: Array) -> Array:
    """Coordinates [S, p] of the most promising starts, best first."""
    coordinates = kernel.coordinates
    spread = [k for k, p in enumerate(coordinates.free) if not p.linear]
    linear = [k for k, p in enumerate(coordinates.free) if p.linear]
    if not spread:
        candidates, keep = 1, 1
    else:
        candidates, keep = (256, 12) if len(spread) <= 2 else (1024, 24) if len(spread) <= 4 else (2048, 40)
    phi = np.zeros((candidates, len(coordinates.free)))
    for k, share in zip(spread, _even(candidates, len(spread)).T, strict=True):
        phi[:, k] = coordinates.start(coordinates.free[k], share)
    cost = np.empty(candidates)
    for i in range(0, candidates, 256):
        rows = slice(i, i + 256)
        with np.errstate(all="ignore"):
            if linear:
                phi[rows], cost[rows] = _projected(kernel, y, weights, phi[rows], linear)
            else:
                r = y - coordinates.response(phi[rows], kernel.columns)
                cost[rows] = (weights * r**2).sum(axis=1)
    cost = np.where(np.isfinite(cost) & np.isfinite(phi).all(axis=1), cost, np.inf)
    return phi[np.argsort(cost, kind="stable")[:keep]]


def _projected(kernel: Kernel, y: Array, weights: Array, phi: Array, linear: list[int]) -> tuple[Array, Array]:
    """Candidates [M, p] with their linear parameters solved for, and the sum of squares [M] that is left."""
    coordinates, columns = kernel.coordinates, kernel.columns
    target = np.exp(y) if coordinates.space == "log" else y
    theta = coordinates.parameters(phi)
    names = [coordinates.free[k].name for k in linear]
    none = {**theta, **{name: np.zeros((len(phi), 1)) for name in names}}
    base = coordinates.law.value(none, columns)
    unit = {name: theta[name] if coordinates.free[k].role == "amplitude" else np.ones((len(phi), 1))
            for k, name in zip(linear, names, strict=True)}  # fmt: skip
    basis = np.stack(
        [coordinates.law.value({**none, name: unit[name]}, columns) - base for name in names], axis=1
    )  # [M, m, n]
    root = np.sqrt(weights) / (target if coordinates.space == "log" else 1.0)
    basis, left = basis * root, (target - base) * root
    signed = [coordinates.free[k].role == "real" for k in linear]
    amounts, cost = _non_negative(basis, left, signed)
    tiny = 1e-4 * (coordinates.smallest if coordinates.space == "log" else coordinates.typical)
    for j, name in enumerate(names):
        amount = amounts[:, j : j + 1]
        if not signed[j]:
            at_least = tiny / np.maximum(np.abs(basis[:, j] / root).mean(axis=1, keepdims=True), 1e-300)
            amount = np.maximum(amount, at_least)
        theta[name] = amount * unit[name]
    return coordinates.coordinates({name: value[:, 0] for name, value in theta.items()}), cost


def _non_negative(basis: Array, target: Array, signed: list[bool]) -> tuple[Array, Array]:
    """Least squares of target [M, n] on basis [M, m, n], amounts [M, m] at least 0 unless signed, over all active sets."""
    size = np.sqrt(np.maximum((basis**2).sum(axis=2), 1e-300))
    basis = basis / size[:, :, None]
    gram = basis @ basis.transpose(0, 2, 1)
    moment = (basis @ target[:, :, None])[:, :, 0]
    best = np.zeros_like(moment)
    cost = np.full(len(moment), np.inf)
    total = (target**2).sum(axis=1)
    for chosen in product((True, False), repeat=len(signed)):
        active = [k for k, yes in enumerate(chosen) if yes]
        if any(s and not yes for s, yes in zip(signed, chosen, strict=True)):
            continue
        amounts = np.zeros_like(moment)
        if active:
            part = gram[:, active][:, :, active] + 1e-13 * np.eye(len(active))
            finite = np.asarray(np.isfinite(part.sum(axis=(1, 2)) + moment[:, active].sum(axis=1)), bool)
            part = np.where(finite[:, None, None], part, np.eye(len(active)))
            amounts[:, active] = np.linalg.solve(part, moment[:, active, None])[:, :, 0]
            amounts[~finite] = np.nan
        left = total - (amounts * moment).sum(axis=1)
        allowed: NDArray[np.bool_] = ((amounts >= 0) | np.array(signed)).all(axis=1)
        allowed &= left < cost
        best[allowed], cost[allowed] = amounts[allowed], left[allowed]
    return best / size, cost


def _thinned(kernel: Kernel, y: Array, weights: Array) -> tuple[Kernel, Array, Array]:
    """The kernel of some rows of a long table, evenly over its responses."""
    if len(y) <= _ENOUGH:
        return kernel, y, weights
    rows = np.sort(np.argsort(y, kind="stable")[np.linspace(0, len(y) - 1, _ENOUGH).round().astype(int)])
    columns = {name: values[rows] for name, values in kernel.columns.items()}
    coordinates: Coordinates = kernel.coordinates
    return kernel_of(coordinates, columns), y[rows], weights[rows]


def _even(count: int, dimensions: int) -> Array:
    """Points [count, dimensions] spread evenly over the unit cube: multiples of the generalised golden ratio."""
    if dimensions == 0:
        return np.zeros((count, 0))
    ratio = 2.0
    for _ in range(40):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    return (0.5 + np.arange(1, count + 1)[:, None] * steps) % 1.0


def _distinct(found: Minimum) -> int:
    """The number of distinct optima that converged searches ended in, by their objective."""
    values = np.sort(found.objective[found.converged])
    if values.size == 0:
        return 0
    return int(1 + (np.diff(values) > 1e-6 * np.abs(values[1:]) + 1e-15).sum())
