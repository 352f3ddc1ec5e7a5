"""The coordinates that the solver moves in: logarithms, centred on the data.

An amplitude is replaced by the log of its term's loss at the centre of the data, a constant by its
log, an exponent stays itself. So no two coordinates trade off by construction, and every parameter
keeps its domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.laws import Columns, Law, Parameter

_COMPLEX_STEP = 1e-30
_FLOOR = 30.0  # a constant is not searched below exp(-30) of the smallest loss
_ZERO = 12.0  # and counts as 0 below exp(-12) of it
_EXPONENTS = (1e-3, 6.0)  # a law whose exponent ends at either edge is not identified


@dataclass(frozen=True)
class Coordinates:
    """The map between a law's parameters and the solver's coordinates, for one table."""

    law: Law
    centres: dict[str, float]
    smallest_loss: float
    typical_loss: float

    @classmethod
    def of(cls, law: Law, columns: Columns, log_loss: NDArray[np.float64]) -> Coordinates:
        """Centred on the mean logarithm of each column."""
        centres = {name: float(np.log(columns[name]).mean()) for name in law.columns}
        return cls(law, centres, float(np.exp(log_loss.min())), float(np.exp(np.median(log_loss))))

    def parameters(self, phi: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Coordinates [B, p] (real or complex) to parameters, each [B, 1]."""
        theta = {p.name: phi[:, k : k + 1] for k, p in enumerate(self.law.parameters) if p.role == "exponent"}
        for k, p in enumerate(self.law.parameters):
            value = phi[:, k : k + 1]
            if p.role == "constant":
                theta[p.name] = np.exp(value)
            elif p.role == "amplitude":
                theta[p.name] = np.exp(value / self._part(p.power, theta) + self._shift(p, theta))
        return {p.name: theta[p.name] for p in self.law.parameters}

    def coordinates(self, theta: dict[str, float]) -> NDArray[np.float64]:
        """Parameters to coordinates [p]; a constant of 0 stands at the floor."""
        phi = []
        for p in self.law.parameters:
            value = theta[p.name]
            if p.role == "constant":
                phi.append(np.log(max(value, np.exp(self.floor()))))
            elif p.role == "amplitude":
                phi.append((np.log(value) - self._shift(p, theta)) * self._part(p.power, theta))
            else:
                phi.append(value)
        return np.array(phi, np.float64)

    def starts(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Random starts [count, p] within the parameters' start ranges."""
        shares = rng.random((count, len(self.law.parameters)))
        phi = np.empty_like(shares)
        for k, p in enumerate(self.law.parameters):
            low, high = p.start
            value = low * (high / low) ** shares[:, k]
            if p.role == "exponent":
                phi[:, k] = value
            else:
                phi[:, k] = np.log(value * (self.smallest_loss if p.role == "constant" else self.typical_loss))
        return phi

    def floor(self) -> float:
        """The lowest coordinate of a constant."""
        return float(np.log(self.smallest_loss)) - _FLOOR

    def natural(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates [B, p] to parameters [B, p] in the law's order; a constant too small to matter is 0."""
        theta = self.parameters(phi)
        values = np.concatenate([theta[p.name] for p in self.law.parameters], axis=1)
        constant = np.array([p.role == "constant" for p in self.law.parameters])
        zeroed: NDArray[np.float64] = np.where(constant & (phi <= np.log(self.smallest_loss) - _ZERO), 0.0, values)
        return zeroed

    @cached_property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest coordinates, each [p]: constants from the floor up, exponents within _EXPONENTS."""
        lowest = {"constant": self.floor(), "exponent": _EXPONENTS[0], "amplitude": -np.inf}
        highest = {"constant": np.inf, "exponent": _EXPONENTS[1], "amplitude": np.inf}
        roles = [p.role for p in self.law.parameters]
        return np.array([lowest[role] for role in roles]), np.array([highest[role] for role in roles])

    def log_loss(self, phi: NDArray[Any], columns: Columns) -> NDArray[Any]:
        """Logarithm of the law's loss [B, n] at coordinates [B, p]."""
        value: NDArray[Any] = np.log(self.law.loss(self.parameters(phi), columns))
        return value

    def slopes(self, phi: NDArray[np.float64], columns: Columns) -> NDArray[np.float64]:
        """Derivatives of `log_loss` by each coordinate [B, p, n]: by the law's own, else by complex steps, both exact."""
        if not hasattr(self.law, "gradient"):
            return np.stack([self._complex_slope(phi, k, columns) for k in range(phi.shape[1])], axis=1)
        theta = self.parameters(phi)
        by_parameter = self.law.gradient(theta, columns)
        index = {p.name: k for k, p in enumerate(self.law.parameters)}
        slopes = np.empty((*phi.shape, len(next(iter(columns.values())))))
        for p in self.law.parameters:
            slopes[:, index[p.name]] = by_parameter[p.name] * (1.0 if p.role == "exponent" else theta[p.name])
        for p in self.law.parameters:
            if p.role != "amplitude":
                continue
            k, power = index[p.name], self._part(p.power, theta)
            by_log = slopes[:, k].copy()
            slopes[:, k] = by_log / power
            if isinstance(p.power, str):  # at a fixed coordinate the amplitude moves with its powers
                slopes[:, index[p.power]] -= by_log * phi[:, k : k + 1] / power**2
            if isinstance(p.exponent, str) and p.column is not None:
                slopes[:, index[p.exponent]] += by_log * self.centres[p.column]
        value: NDArray[np.float64] = slopes / self.law.loss(theta, columns)[:, None]
        return value

    def _complex_slope(self, phi: NDArray[np.float64], k: int, columns: Columns) -> NDArray[np.float64]:
        moved = phi.astype(np.complex128)
        moved[:, k] += 1j * _COMPLEX_STEP
        slope: NDArray[np.float64] = self.log_loss(moved, columns).imag / _COMPLEX_STEP
        return slope

    def _shift(self, p: Parameter, theta: Mapping[str, Any]) -> Any:
        if p.column is None or p.exponent is None:
            return 0.0
        return self._part(p.exponent, theta) * self.centres[p.column]

    @staticmethod
    def _part(value: str | float, theta: Mapping[str, Any]) -> Any:
        return theta[value] if isinstance(value, str) else value
