"""Variants of a fit in milliseconds, from its optimum: rows left out, another width of the loss, and what chance allows.

Leaving out rows moves every estimate, so a move counts only where it is more than chance. What chance
allows is the standard deviation of the difference of two fits: from the sum over runs of the
squared difference of their influences, which is a sandwich by run and needs no resampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import stdtrit

from testbed.analysis.fit.estimate import Estimate, robust_sd
from testbed.analysis.fit.prediction.domain import Domain
from testbed.analysis.fit.problem import Problem
from testbed.analysis.fit.solver import minimise

Array = NDArray[np.float64]

_MOST_ROWS = 20_000  # of a longer table so many rows are refitted
_TAIL = 0.99865  # below three standard deviations of a normal
_LEAST_SD = 1e-4  # share of a parameter; a smaller standard error counts as this


@dataclass(frozen=True)
class Move:
    """The move of one parameter in a variant of a fit, in its standard errors and relative to what chance allows."""

    parameter: str
    before: float
    after: float
    errors: float
    chances: float


@dataclass(frozen=True)
class Variant:
    """One refit: its name, all parameters, and the moves of those that are watched."""

    name: str
    params: dict[str, float]
    moves: tuple[Move, ...]

    @property
    def worst(self) -> Move:
        """The move of most standard errors."""
        return max(self.moves, key=lambda move: move.errors)


@dataclass(frozen=True)
class Refits:
    """A fit's problem and optimum, ready to be refitted; of a long table, a part of the rows, evenly over the responses.

    `rows` are the places of its rows among the fit's, `y` their responses; `members` [rows, runs] is each
    run's share in a row, `runs` the numbers of those runs.
    """

    fit: Estimate
    problem: Problem
    rows: NDArray[np.intp]
    y: Array
    members: sparse.csr_array
    runs: NDArray[np.intp]
    phi: Array

    @classmethod
    def of(cls, fit: Estimate) -> Refits:
        """The refits of a fit, of all its rows or of 20 000 of them."""
        whole, n = fit.problem, fit.nobs
        shares = sparse.csr_array(fit.rows.members / np.asarray(fit.rows.members.sum(axis=1))[:, None])
        if n <= _MOST_ROWS:
            return cls(fit, whole, np.arange(n), fit.rows.y, shares, np.arange(fit.rows.n_units), fit.phi)
        order = np.argsort(fit.rows.y, kind="stable")
        rows = np.sort(order[np.linspace(0, n - 1, _MOST_ROWS).round().astype(np.intp)])
        columns = {name: values[rows] for name, values in whole.columns.items()}
        part = Problem(whole.coordinates, columns, whole.loss, whole.delta)
        y, members = fit.rows.y[rows], shares[rows]
        runs = np.unique(members.indices).astype(np.intp)
        phi = part.solve(y, np.ones((1, len(y))), fit.phi[None]).phi[0]
        return cls(fit, part, rows, y, members[:, runs], runs, phi)

    def without(self, left_out: Mapping[str, NDArray[np.bool_]]) -> list[Variant]:
        """The fits without some rows: name -> which are left out [rows]; none where too few remain."""
        weights = {name: np.where(out, 0.0, 1.0) for name, out in left_out.items() if out.any() and self._enough(~out)}
        if not weights:
            return []
        found = self.problem.solve(
            self.y, np.stack(list(weights.values())), np.repeat(self.phi[None], len(weights), axis=0)
        )
        return [
            self._variant(name, found.phi[k], w, self._width)
            for k, (name, w) in enumerate(weights.items())
            if found.converged[k]
        ]

    def with_widths(self, widths: Mapping[str, float]) -> list[Variant]:
        """The fits with Huber's loss of other widths: name -> width, infinite for least squares."""
        deltas = np.array(list(widths.values()))
        ones = np.ones((len(deltas), len(self.y)))
        found = minimise(self.problem.kernel, self.y, ones, np.repeat(self.phi[None], len(deltas), axis=0), deltas)
        return [
            self._variant(name, found.phi[k], ones[k], width)
            for k, (name, width) in enumerate(widths.items())
            if found.converged[k]
        ]

    @cached_property
    def watched(self) -> list[int]:
        """Places among the free parameters of those whose moves count: exponents, or else all that are not linear."""
        free = self.problem.coordinates.free
        exponents = [k for k, p in enumerate(free) if p.role == "exponent"]
        return exponents or [k for k, p in enumerate(free) if p.role in ("scale", "fraction", "real") and not p.linear]

    @cached_property
    def domain(self) -> Domain:
        """Where all rows of the fit lie."""
        return Domain.of(self.fit.law, self.fit.rows.columns)

    @cached_property
    def residuals(self) -> Array:
        """Observed less fitted [rows]."""
        return self._residuals(self.phi)

    @cached_property
    def influence(self) -> Array:
        """Influence of each run on the fit's coordinates [runs, p]."""
        return self._influences(self.phi, np.ones(len(self.y)), self._width)

    @cached_property
    def coordinate_errors(self) -> Array:
        """Standard errors [p] of what is watched, in the solver's coordinates.

        Those of the resamples; to first order where there are none, or where only part of the rows is refitted.
        """
        free = self.problem.coordinates.free
        if len(self.fit.resamples) < 2 or len(self.rows) < self.fit.nobs:
            return np.asarray(np.sqrt((self.influence**2).sum(axis=0)))
        return np.asarray(self.fit.bse[[p.name for p in free]].to_numpy() / np.maximum(self._slope, 1e-300))

    def _influences(self, phi: Array, weights: Array, width: float) -> Array:
        """Influence of each run on the coordinates [runs, p], to first order, at a minimum for Huber's `width`."""
        jacobian = self.problem.coordinates.slopes(phi[None], self.problem.columns)[0]
        r = self._residuals(phi)
        used = weights > 0
        # Where the loss is narrower than the scatter, its curvature is the density of the residuals at 0.
        spread = robust_sd(r[used])
        window = max(width, 1.06 * spread * int(used.sum()) ** -0.2)
        sharpness = 1.0 if not np.isfinite(window) else min(width / window, 1.0) if window > 0 else 1.0
        size = np.maximum(np.sqrt((jacobian**2).sum(axis=1)), 1e-300)
        scaled = jacobian / size[:, None]
        hessian = sharpness * (scaled * (weights * (np.abs(r) <= window))) @ scaled.T
        scores = self.members.T @ (scaled * (weights * np.clip(r, -width, width))).T
        return np.asarray(scores @ np.linalg.pinv(hessian, rcond=1e-10, hermitian=True) / size)

    @cached_property
    def _width(self) -> float:
        """The width of the Huber loss that the fit minimised, or of one close to its loss."""
        if self.problem.loss == "ls":
            return np.inf
        spread = robust_sd(self.residuals)
        sharp = {"lad": 1e-3 * spread, "huber-likelihood": self.problem.delta * spread}
        return sharp.get(self.problem.loss, self.problem.delta)

    def _variant(self, name: str, phi: Array, weights: Array, width: float) -> Variant:
        coordinates = self.problem.coordinates
        natural = coordinates.natural(np.stack([self.phi, phi]))
        before, after = (dict(zip(self.fit.theta, row, strict=True)) for row in natural.tolist())
        apart = self._influences(phi, weights, width) - self.influence
        chance = _few(int((self.members.T @ weights > 0).sum()), len(phi)) * np.sqrt((apart**2).sum(axis=0))
        moves = []
        for k in self.watched:
            parameter = coordinates.free[k].name
            moved = abs(after[parameter] - before[parameter])
            least = _LEAST_SD * abs(before[parameter]) + 1e-300
            errors, chances = (
                moved / max(float(sd[k] * self._slope[k]), least) for sd in (self.coordinate_errors, chance)
            )
            moves.append(Move(parameter, before[parameter], after[parameter], errors, chances))
        return Variant(name, after, tuple(moves))

    @cached_property
    def _slope(self) -> Array:
        """Derivative of each free parameter that may be watched by its coordinate [p]; 1 for the others."""
        values = [(p.role, self.fit.theta[p.name]) for p in self.problem.coordinates.free]
        slopes = {"scale": lambda v: v, "fraction": lambda v: v * (1 - v)}
        return np.array([slopes[role](v) if role in slopes else 1.0 for role, v in values])

    def _enough(self, kept: NDArray[np.bool_]) -> bool:
        """Whether the rows that are kept can still be fitted."""
        columns = self.problem.columns.values()
        varies = all(np.ptp(v[kept]) > 0 for v in columns if v.ndim == 1 and np.ptp(v) > 0) if kept.any() else False
        return bool(kept.sum() >= 2 * len(self.phi)) and varies

    def _residuals(self, phi: Array) -> Array:
        return np.asarray(self.y - self.problem.coordinates.response(phi[None], self.problem.columns)[0], np.float64)


def _few(runs: int, parameters: int) -> float:
    """The factor on a sandwich's standard deviation from few runs that makes it comparable to one from many.

    Residuals are smaller than errors by as many degrees of freedom as there are parameters, and three
    standard deviations of a normal are more of Student's t.
    """
    freedom = runs - parameters
    if freedom < 1:
        return np.inf
    return math.sqrt(runs / freedom) * float(stdtrit(freedom, _TAIL)) / 3
