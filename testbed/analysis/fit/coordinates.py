"""The coordinates that the solver moves in: logarithms, centred on the data.

An amplitude is replaced by the log of its term at the centre of the data, a constant or a scale by
its log, a fraction by its logit; an exponent or a real stays as it is. So the coordinates are nearly
uncorrelated, and every parameter keeps its domain. Parameters held at a value have no coordinate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws import Columns, Law, Parameter

Array = NDArray[np.float64]

_COMPLEX_STEP = 1e-30
_FLOOR = 30.0  # a term is not searched below exp(-30) of the typical response
_ZERO = 12.0  # and counts as 0 below exp(-12) of it
_EXPONENTS = (1e-3, 6.0)  # a law whose exponent ends at either edge is not identified
_LOG_SCALE = 30.0  # how far beyond its start range the log of a scale is searched
_WIDTHS = 20.0  # and a real, in widths of that range
_LOGIT = 15.0  # how near to 0 and 1 a fraction is searched


@dataclass(frozen=True)
class Coordinates:
    """The map between a law's parameters and the solver's coordinates, for one table.

    `centres` are mean logarithms of columns; `typical` and `smallest` the response's size, `space`
    where residuals are taken, `fixed` the parameters that are held.
    """

    law: Law
    centres: Mapping[str, float]
    smallest: float
    typical: float
    space: Literal["log", "linear"]
    fixed: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        law: Law,
        columns: Columns,
        y: Array,
        space: Literal["log", "linear"] | None = None,
        fixed: Mapping[str, float] | None = None,
    ) -> Coordinates:
        """Centred on the mean logarithm of each prepared column; `y` [n] are responses, or their logs in log space."""
        space = space or law.space
        named = {c for p in law.parameters for c in (*p.falls, *([p.column] if p.column else []))}
        centres = {name: float(np.log(columns[name]).mean()) for name in sorted(named)}
        if space == "log":
            return cls(law, centres, float(np.exp(y.min())), float(np.exp(np.median(y))), space, fixed or {})
        size = float(np.abs(y).max()) or 1.0
        return cls(law, centres, size, size, space, fixed or {})

    @cached_property
    def free(self) -> tuple[Parameter, ...]:
        """The parameters that have a coordinate, in the law's order."""
        return tuple(p for p in self.law.parameters if p.name not in self.fixed)

    def parameters(self, phi: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Coordinates [B, p] (real or complex) to all parameters, each [B, 1]."""
        theta: dict[str, Any] = {name: np.full((len(phi), 1), value) for name, value in self.fixed.items()}
        for k, p in enumerate(self.free):
            if p.role != "amplitude":
                theta[p.name] = self._inverse(p, phi[:, k : k + 1])
        for k, p in enumerate(self.free):
            if p.role == "amplitude":
                value = phi[:, k : k + 1]
                theta[p.name] = np.exp(value / _part(p.power, theta) + self._shift(p, theta))
        return {p.name: theta[p.name] for p in self.law.parameters}

    def coordinates(self, theta: Mapping[str, Any]) -> Array:
        """Parameters (numbers, or arrays [B]) to coordinates [p] or [B, p]; a term of 0 stands at the floor."""
        phi = []
        for p in self.free:
            value = np.asarray(theta[p.name], np.float64)
            if p.role == "amplitude":
                with np.errstate(divide="ignore"):
                    centred = (np.log(value) - self._shift(p, theta)) * _part(p.power, theta)
                phi.append(np.maximum(centred, self._floor(p)))
            elif p.role == "constant":
                phi.append(np.log(np.maximum(value, np.exp(self._floor(p)))))
            elif p.role == "scale":
                phi.append(np.log(value))
            elif p.role == "fraction":
                phi.append(np.log(value) - np.log1p(-value))
            else:
                phi.append(value)
        return np.stack(np.broadcast_arrays(*phi), axis=-1).astype(np.float64)

    def start(self, p: Parameter, share: Array) -> Array:
        """Where a share [M] from 0 to 1 of the way through its start range puts a parameter's coordinate [M]."""
        low, high = p.start
        if p.role == "real":
            return low + (high - low) * share
        value = low * (high / low) ** share
        if p.role == "exponent":
            return np.asarray(value)
        if p.role == "fraction":
            value = low + (high - low) * share
            return np.asarray(np.log(value) - np.log1p(-value))
        unit = {"amplitude": np.log(self.typical), "constant": np.log(self.smallest)}.get(p.role, 0.0)
        if p.role == "scale" and p.column is not None:
            unit = self.centres[p.column]
        return np.asarray(np.log(value) + unit)

    def natural(self, phi: Array) -> Array:
        """Coordinates [B, p] to all parameters [B, all] in the law's order; a term too small to matter is 0."""
        theta = self.parameters(phi)
        columns = {name: value[:, 0].copy() for name, value in theta.items()}
        for k, p in enumerate(self.free):
            if p.role in ("amplitude", "constant"):
                columns[p.name][phi[:, k] <= self._floor(p) + _FLOOR - _ZERO] = 0.0
        return np.stack(list(columns.values()), axis=1)

    def theta(self, phi: Array) -> dict[str, float]:
        """Coordinates [p] to the parameters by name (see `natural`)."""
        return dict(zip((p.name for p in self.law.parameters), self.natural(phi[None])[0].tolist(), strict=True))

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest coordinates, each [p]."""
        pairs = [self._edges(p) for p in self.free]
        return np.array([low for low, _ in pairs], np.float64), np.array([high for _, high in pairs], np.float64)

    def at_edge(self, phi: Array) -> list[str]:
        """Free parameters whose coordinate [p] stands at a bound."""
        low, high = self.bounds
        return [p.name for k, p in enumerate(self.free) if phi[k] <= low[k] + 1e-6 or phi[k] >= high[k] - 1e-6]

    def response(self, phi: NDArray[Any], columns: Columns) -> NDArray[Any]:
        """The law's response in the space of residuals [B, n], at coordinates [B, p] and prepared columns."""
        value = self.law.value(self.parameters(phi), columns)
        return np.log(value) if self.space == "log" else value

    def slopes(self, phi: Array, columns: Columns, upto: int | None = None) -> Array:
        """Derivatives of `response` by the first `upto` coordinates [B, p, n], exact."""
        if not hasattr(self.law, "gradient"):
            count = len(self.free) if upto is None else upto
            return np.stack([self._complex_slope(phi, k, columns) for k in range(count)], axis=1)
        theta = self.parameters(phi)
        by_parameter = self.law.gradient(theta, columns)
        index = {p.name: k for k, p in enumerate(self.free)}
        shape = by_parameter[self.free[0].name].shape
        slopes = np.empty((len(phi), len(self.free), shape[-1]))
        for k, p in enumerate(self.free):
            slopes[:, k] = by_parameter[p.name] * self._by_coordinate(p, theta)
        for p in self.free:
            if p.role == "amplitude":
                self._through_amplitude(p, index, theta, phi, slopes)
        if self.space == "log":
            slopes /= self.law.value(theta, columns)[:, None]
        return slopes if upto is None else slopes[:, :upto]

    def _through_amplitude(
        self, p: Parameter, index: dict[str, int], theta: Mapping[str, Any], phi: Array, slopes: Array
    ) -> None:
        """At a fixed coordinate an amplitude moves with its exponents and its power."""
        k, power = index[p.name], _part(p.power, theta)
        by_log = slopes[:, k].copy()
        slopes[:, k] = by_log / power
        if isinstance(p.power, str) and p.power in index:
            by_power = -by_log * phi[:, k : k + 1] / power**2
            slopes[:, index[p.power]] += by_power * self._by_coordinate(self.free[index[p.power]], theta)
        for column, name in p.falls.items():
            if isinstance(name, str) and name in index:
                along = by_log * self.centres[column]
                slopes[:, index[name]] += along * self._by_coordinate(self.free[index[name]], theta)

    @staticmethod
    def _by_coordinate(p: Parameter, theta: Mapping[str, Any]) -> Any:
        """Derivative of a parameter by its own coordinate."""
        if p.role in ("exponent", "real"):
            return 1.0
        value = theta[p.name]
        return value * (1 - value) if p.role == "fraction" else value

    def _complex_slope(self, phi: Array, k: int, columns: Columns) -> Array:
        moved = phi.astype(np.complex128)
        moved[:, k] += 1j * _COMPLEX_STEP
        return np.asarray(self.response(moved, columns).imag / _COMPLEX_STEP)

    @staticmethod
    def _inverse(p: Parameter, coordinate: NDArray[Any]) -> NDArray[Any]:
        if p.role in ("constant", "scale"):
            return np.asarray(np.exp(coordinate))
        if p.role == "fraction":
            return np.asarray(1 / (1 + np.exp(-coordinate)))
        return coordinate

    def _edges(self, p: Parameter) -> tuple[float, float]:
        """The lowest and highest coordinate that a search may reach; beyond them a parameter has no meaning."""
        if p.role in ("amplitude", "constant"):
            return self._floor(p), np.inf
        if p.role == "exponent":
            return _EXPONENTS
        if p.role == "fraction":
            return -_LOGIT, _LOGIT
        if p.linear:
            return (-np.inf, np.inf) if p.role == "real" else (-_LOG_SCALE * 10, _LOG_SCALE * 10)
        low, high = (float(end) for end in self.start(p, np.array([0.0, 1.0])))
        room = _LOG_SCALE if p.role == "scale" else _WIDTHS * (high - low)
        return low - room, high + room

    def _floor(self, p: Parameter) -> float:
        return float(np.log(self.smallest if p.role == "constant" else self.typical)) - _FLOOR

    def _shift(self, p: Parameter, theta: Mapping[str, Any]) -> Any:
        return sum(_part(power, theta) * self.centres[column] for column, power in p.falls.items())


def _part(value: str | float, theta: Mapping[str, Any]) -> Any:
    return theta[value] if isinstance(value, str) else value
