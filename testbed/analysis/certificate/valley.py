"""The valley of log loss over the log of the learning rate: curves around its lowest point, for several corners at once.

Each corner has a parabola, with a level of its own for each seed (a difference between seeds that is the same at every
rate is not noise), and all corners share one cubic term: losses rise faster above the optimum than below it, and a
parabola alone would put the optimum too low. A corner is fitted in a window of multiples within a factor of 2.9 of
its lowest point, and of the five nearest at least; the window is centred on the lowest mean, then on the lowest
point of each fit until it stays. The scatter about the curves is pooled over the corners, since one corner has too
few points to estimate its own; where the seeds' slopes scatter more than that, their scatter is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]
Points = tuple[Array, Array, NDArray[np.intp]]  # of one corner: log multiples, log losses, seed numbers [points]

_REACH = math.log(2.9)  # half the width of a window, in log multiples
_FEWEST = 5  # multiples in a window, and for a cubic term
_ROUNDS = 6  # of centring a window, at most
_FARTHEST = math.log(30.0)  # an interval that reaches further has an open end
_GRID = np.linspace(-_FARTHEST, _FARTHEST, 6801)


@dataclass(frozen=True)
class Valley:
    """The curve at one corner: log loss = level + slope x + bend x^2 + skew x^3, x the log of a multiple of the rule's rate.

    `covariance` [3, 3] is that of (slope, bend, skew), with `freedom` degrees of freedom; `low` and `high` are the ends
    of the window that was fitted.
    """

    level: float
    slope: float
    bend: float
    skew: float
    covariance: Array
    freedom: int
    low: float
    high: float

    @property
    def vertex(self) -> float:
        """The x of the lowest point; nan where the curve has none."""
        return float(vertices(np.array([[self.slope, self.bend, self.skew]]))[0])

    @property
    def curvature(self) -> float:
        """Half the second derivative at the lowest point."""
        return self.bend + 3 * self.skew * self.vertex

    @property
    def excess(self) -> float:
        """How far the curve at x = 0, the rule's own rate, lies above its lowest point."""
        return float(excesses(np.array([[self.slope, self.bend, self.skew]]))[0])

    def vertex_range(self, level: float) -> tuple[float | None, float | None]:
        """The interval of the lowest point: all x near it where the derivative may be 0 (Fieller, 1954); None is an open end."""
        at = np.stack([np.ones_like(_GRID), 2 * _GRID, 3 * _GRID**2], axis=1)
        derivative = at @ np.array([self.slope, self.bend, self.skew])
        error = np.sqrt(np.einsum("gi,ij,gj->g", at, self.covariance, at))
        outside = np.abs(derivative) > float(student.ppf((1 + level) / 2, self.freedom)) * error
        vertex = self.vertex
        left, right = _GRID[outside & (vertex > _GRID)], _GRID[outside & (vertex < _GRID)]
        return (float(left[-1]) if left.size else None), (float(right[0]) if right.size else None)

    def draws(self, count: int, rng: np.random.Generator) -> Array:
        """Plausible (slope, bend, skew) [count, 3]: multivariate Student's t around the estimate."""
        values, vectors = np.linalg.eigh(self.covariance)
        normal = rng.standard_normal((count, 3)) * np.sqrt(np.maximum(values, 0.0))
        scale = np.sqrt(self.freedom / rng.chisquare(self.freedom, count))[:, None]
        return np.asarray(np.array([self.slope, self.bend, self.skew]) + scale * (normal @ vectors.T))


def vertices(curves: Array) -> Array:
    """The x of the lowest points [n] of curves (slope, bend, skew) [n, 3]; nan for a curve without one."""
    slope, bend, skew = curves.T
    root = np.sqrt(np.where(bend * bend >= 3 * skew * slope, bend * bend - 3 * skew * slope, np.nan))
    below = bend + root
    return np.asarray(-slope / np.where(below > 0, below, np.nan))


def excesses(curves: Array) -> Array:
    """How far each curve (slope, bend, skew) [n, 3] at x = 0 lies above its lowest point [n]."""
    v = vertices(curves)
    slope, bend, skew = curves.T
    return np.asarray(-(slope + (bend + skew * v) * v) * v)


def fit_valleys(corners: Sequence[Points]) -> list[Valley]:
    """The curve of each corner, all fitted together, each in a window of its own."""
    centres = [_lowest(x, y) for x, y, _ in corners]
    windows = [_window(x, centre) for (x, *_), centre in zip(corners, centres, strict=True)]
    for _ in range(_ROUNDS):
        found = _least_squares([(x[w], y[w], s[w]) for (x, y, s), w in zip(corners, windows, strict=True)])
        again = [_window(x, _centre(valley, x)) for (x, *_), valley in zip(corners, found, strict=True)]
        if all((a == b).all() for a, b in zip(again, windows, strict=True)):
            break
        windows = again
    return found


def _lowest(x: Array, y: Array) -> float:
    """The log multiple of the lowest mean."""
    at, group = np.unique(x, return_inverse=True)
    return float(at[np.argmin(np.bincount(group, weights=y) / np.bincount(group))])


def _centre(valley: Valley, x: Array) -> float:
    vertex = valley.vertex
    ends = (float(x.min()), float(x.max()))
    return min(ends, key=lambda end: end * valley.slope) if math.isnan(vertex) else float(np.clip(vertex, *ends))


def _window(x: Array, centre: float) -> NDArray[np.bool_]:
    nearest = np.sort(np.abs(np.unique(x) - centre))
    reach = max(_REACH, float(nearest[min(_FEWEST, len(nearest)) - 1]))
    return np.asarray(np.abs(x - centre) <= reach + 1e-9)


def _least_squares(corners: Sequence[Points]) -> list[Valley]:
    """One least-squares fit of all corners; the cubic term only where every window has five multiples to determine it."""
    x, y = (np.concatenate([corner[k] for corner in corners]) for k in range(2))
    group = np.repeat(np.arange(len(corners)), [len(corner[0]) for corner in corners])
    _, own = np.unique([group, np.concatenate([corner[2] for corner in corners])], axis=1, return_inverse=True)
    levels = (own[:, None] == np.arange(own.max() + 1)).astype(float)  # [points, corners x seeds]
    at = (group[:, None] == np.arange(len(corners))).astype(float)
    skewed = all(len(np.unique(corner[0])) >= _FEWEST for corner in corners)
    parts = [levels, at * x[:, None], at * x[:, None] ** 2, *([x[:, None] ** 3] if skewed else [])]
    design = np.concatenate(parts, axis=1)
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    covariance = np.linalg.pinv(design.T @ design)
    variance, freedom = _scatter(x, y - design @ solution, levels, len(y) - design.shape[1], len(corners))
    first, count = levels.shape[1], len(corners)
    valleys = []
    for k, corner in enumerate(corners):
        chosen = [first + k, first + count + k, *([first + 2 * count] if skewed else [])]
        terms, errors = np.zeros(3), np.zeros((3, 3))
        terms[: len(chosen)] = solution[chosen]
        errors[: len(chosen), : len(chosen)] = variance * covariance[np.ix_(chosen, chosen)]
        level = float(solution[np.unique(own[group == k])].mean())
        ends = (float(corner[0].min()), float(corner[0].max()))
        slope, bend, skew = (float(term) for term in terms)
        valleys.append(Valley(level, slope, bend, skew, errors, freedom, *ends))
    return valleys


def _scatter(x: Array, rest: Array, levels: Array, freedom: int, corners: int) -> tuple[float, int]:
    """Variance and degrees of freedom: from all residuals, or from the slopes of the seeds where these scatter more."""
    variance = float((rest**2).sum()) / max(freedom, 1)
    away = x - levels @ ((levels.T @ x) / levels.sum(axis=0))
    tilts = (levels.T @ (away * rest)) ** 2 / (levels.T @ away**2)
    seeds = levels.shape[1] - corners
    tilted = float(tilts.sum()) / max(seeds, 1)
    return (tilted, seeds) if seeds and tilted > variance else (variance, max(freedom, 1))
