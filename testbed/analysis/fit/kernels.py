"""The objective of a fit with its gradient and generalised Hessian, for a batch of parameters at once.

The objective is sum_i w_i H(y_i - f(phi; x_i)) with Huber's H (quadratic to delta, linear beyond;
arXiv:2203.15556, appendix D.2). Its generalised Hessian is J' W 1[|r| <= delta] J less the second
derivatives of f weighted by W psi, psi being r clipped to +-delta. For additive laws on log loss both
come in closed form from matrix products with constant matrices; for any other law the second
derivatives are one-sided differences of exact slopes with psi frozen: their error of 1e-6 costs a
Newton step a millionth of its precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.fit.coordinates import Coordinates
from testbed.analysis.laws import AdditiveLaw, Columns

Array = NDArray[np.float64]

_STEP = 1e-6
_ELEMENTS = 1 << 14  # of [rows, n] arrays at a time, so that they stay in the cache


class Kernel(Protocol):
    """The objective of one law on one table."""

    @property
    def coordinates(self) -> Coordinates:
        """The map from phi to the law's parameters."""
        ...

    @property
    def columns(self) -> Columns:
        """The table's prepared columns, each [n]."""
        ...

    def evaluate(self, phi: Array, y: Array, weights: Array, delta: Array) -> tuple[Array, Array, Array]:
        """Objective [B], gradient [p, B] and Hessian [p, p, B] at phi [B, p].

        `y` [n] or [B, n], `weights` [B, n], `delta` [B]; the objective is infinite where the law overflows.
        """
        ...


def kernel_of(coordinates: Coordinates, columns: Columns) -> Kernel:
    """The closed form where the law has one."""
    if isinstance(coordinates.law, AdditiveLaw) and coordinates.space == "log":
        return LogSumKernel(coordinates, columns)
    return GenericKernel(coordinates, columns)


def huber(r: Array, weights: Array, delta: Array) -> tuple[Array, Array]:
    """Sum of Huber losses [B] and psi [B, n] of residuals [B, n]."""
    width = delta[:, None]
    psi = np.clip(r, -width, width)
    total = np.einsum("bi,bi->b", weights, psi * (r - psi / 2))
    return np.where(np.isfinite(total), total, np.inf), psi


@dataclass(frozen=True)
class GenericKernel:
    """The kernel of any law, by its own gradient or by complex steps."""

    coordinates: Coordinates
    columns: Columns

    def evaluate(self, phi: Array, y: Array, weights: Array, delta: Array) -> tuple[Array, Array, Array]:
        """Objective [B], gradient [p, B] and Hessian [p, p, B] (see `Kernel.evaluate`)."""
        size, p = phi.shape
        value, gradient, hessian = np.empty(size), np.empty((p, size)), np.empty((p, p, size))
        for rows in _chunks(size, y.shape[-1]):
            with np.errstate(all="ignore"):
                value[rows], gradient[:, rows], hessian[:, :, rows] = self._evaluate(
                    phi[rows], y if y.ndim == 1 else y[rows], weights[rows], delta[rows]
                )
        return value, gradient, hessian

    def _evaluate(self, phi: Array, y: Array, weights: Array, delta: Array) -> tuple[Array, Array, Array]:
        r = y - self.coordinates.response(phi, self.columns)
        value, psi = huber(r, weights, delta)
        jacobian = self.coordinates.slopes(phi, self.columns)
        pull = (weights * psi)[:, :, None]
        inside = weights * (np.abs(r) <= delta[:, None])
        gradient = -(jacobian @ pull)[:, :, 0].T
        hessian = (jacobian * inside[:, None]) @ jacobian.transpose(0, 2, 1)
        for k in range(phi.shape[1]):  # second derivatives of the law, pulled by the residuals
            ahead = self.coordinates.slopes(_moved(phi, k, _STEP), self.columns, k + 1)
            bend = ((ahead - jacobian[:, : k + 1]) @ pull)[:, :, 0] / _STEP
            hessian[:, k, :k] -= bend[:, :k]
            hessian[:, :k, k] -= bend[:, :k]
            hessian[:, k, k] -= bend[:, k]
        return value, gradient, hessian.transpose(1, 2, 0)


@dataclass(frozen=True)
class _Term:
    """One exp(phi[index] @ design + offset); `design` [m, n], `outer` [n, m * m] its products with itself."""

    index: NDArray[np.intp]
    design: Array
    offset: Array | float

    @cached_property
    def columns(self) -> Array:
        return np.ascontiguousarray(self.design.T)

    def products(self, other: _Term) -> Array:
        """[n, m * m'] products of the designs' rows."""
        pairs = self.design[:, None] * other.design[None]
        return np.ascontiguousarray(pairs.reshape(-1, pairs.shape[-1]).T)


class LogSumKernel:
    """The kernel of additive laws on log loss: each term is the exponential of something linear in the coordinates."""

    def __init__(self, coordinates: Coordinates, columns: Columns) -> None:
        self.coordinates, self.columns = coordinates, columns
        self._terms = _terms(coordinates, columns)
        pairs = [(k, m) for k in range(len(self._terms)) for m in range(k, len(self._terms))]
        self._products = {(k, m): self._terms[k].products(self._terms[m]) for k, m in pairs}

    def evaluate(self, phi: Array, y: Array, weights: Array, delta: Array) -> tuple[Array, Array, Array]:
        """Objective [B], gradient [p, B] and Hessian [p, p, B] (see `Kernel.evaluate`)."""
        size, p = phi.shape
        value, gradient, hessian = np.empty(size), np.zeros((p, size)), np.zeros((p, p, size))
        for rows in _chunks(size, y.shape[-1]):
            with np.errstate(all="ignore"):
                value[rows] = self._evaluate(
                    phi[rows],
                    y if y.ndim == 1 else y[rows],
                    weights[rows],
                    delta[rows],
                    gradient[:, rows],
                    hessian[:, :, rows],
                )
        return value, gradient, hessian

    def _evaluate(self, phi: Array, y: Array, weights: Array, delta: Array, gradient: Array, hessian: Array) -> Array:
        """The objective; adds the gradient and the Hessian into the arrays given."""
        shares = [self._term(phi, term) for term in self._terms]
        total = sum(shares[1:], start=shares[0].copy())
        r = np.log(total)
        np.subtract(y, r, out=r)
        np.divide(1.0, total, out=total)
        for share in shares:
            share *= total
        value, psi = huber(r, weights, delta)
        curved = (psi == r) * weights  # W (1[|r| <= delta] + psi), the weight of J'J
        psi *= weights
        curved += psi
        for k, (term, share) in enumerate(zip(self._terms, shares, strict=True)):
            pulled = psi * share
            across = pulled @ term.columns
            for a, i in enumerate(term.index):
                gradient[i] -= across[:, a]
            share_curved = curved * share
            for m in range(k, len(self._terms)):
                other = self._terms[m]
                weight = share_curved * shares[m]
                if m == k:
                    weight -= pulled
                self._add(hessian, term.index, other.index, weight @ self._products[k, m], m != k)
        return value

    @staticmethod
    def _add(hessian: Array, rows: NDArray[np.intp], columns: NDArray[np.intp], block: Array, mirrored: bool) -> None:
        entry = 0
        for i in rows:
            for j in columns:
                hessian[i, j] += block[:, entry]
                if mirrored:
                    hessian[j, i] += block[:, entry]
                entry += 1

    @staticmethod
    def _term(phi: Array, term: _Term) -> Array:
        exponents = phi[:, term.index] @ term.design
        exponents += term.offset
        return np.exp(exponents, out=exponents)


def _terms(coordinates: Coordinates, columns: Columns) -> list[_Term]:
    """The terms of an additive law; a parameter that is held goes into the offset."""
    index = {p.name: k for k, p in enumerate(coordinates.free)}
    n = len(next(iter(columns.values())))
    terms = []
    for p in coordinates.law.parameters:
        held = coordinates.fixed.get(p.name)
        if p.role not in ("amplitude", "constant") or held == 0.0:
            continue
        places: list[int] = []
        designs: list[Array] = []
        offset: Array | float = 0.0
        if held is None:
            places.append(index[p.name])
            designs.append(np.ones(n))
        else:
            offset = float(np.log(held))
        for column, power in p.falls.items():
            x = np.log(columns[column]) - (coordinates.centres[column] if held is None else 0.0)
            if isinstance(power, str) and power in index:
                places.append(index[power])
                designs.append(-x)
            else:
                offset = offset - (coordinates.fixed[power] if isinstance(power, str) else power) * x
        terms.append(_Term(np.array(places, np.intp), np.array(designs).reshape(-1, n), offset))
    return terms


def _chunks(size: int, width: int) -> list[slice]:
    rows = max(16, _ELEMENTS // width) if width < _ELEMENTS else max(1, 64 * _ELEMENTS // width)
    return [slice(i, i + rows) for i in range(0, size, rows)]


def _moved(phi: Array, k: int, by: float) -> Array:
    moved = phi.copy()
    moved[:, k] += by
    return moved
