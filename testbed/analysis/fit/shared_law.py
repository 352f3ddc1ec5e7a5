"""A law of several groups of rows, in which some parameters are shared and each group has its own of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws import AdditiveLaw, Columns, Law, Parameter
from testbed.analysis.laws.law import Theta

GROUP = "_group"  # the column of the group's number, from 1
_COMPLEX_STEP = 1e-30


class SharedLaw(Law):
    """`law` in each of `groups`, with the parameters in `shared` common to all; the column GROUP says which group a row is of."""

    name = "shared"
    parameters: tuple[Parameter, ...] = ()  # type: ignore[misc]
    columns = ()
    formula = ""
    source = ""

    def __init__(self, law: Law, groups: tuple[str, ...], shared: tuple[str, ...]) -> None:
        self.law, self.groups, self.shared = law, groups, shared
        own = [self._of(p, group) for group in groups for p in law.parameters if p.name not in shared]
        attributes: dict[str, Any] = {
            "name": law.name,
            "columns": (*law.columns, GROUP),
            "parameters": (*(p for p in law.parameters if p.name in shared), *own),
            "response": law.response,
            "space": law.space,
            "positive": law.positive,
            "formula": law.formula,
            "source": law.source,
        }
        for name, value in attributes.items():
            setattr(self, name, value)

    def own(self, parameter: str, group: str) -> str:
        """The name of a group's own parameter."""
        return f"{parameter} ({group})"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """The law's prepared columns, and each row's group."""
        rest = {name: values for name, values in columns.items() if name != GROUP}
        return self.law.prepare(rest) | {GROUP: np.asarray(columns[GROUP], np.float64)}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """The response [B, n]: the law's, of each group with its own parameters."""
        result: NDArray[Any] | None = None
        for rows, part, its in self._split(theta, columns):
            value = self.law.value(its, part)
            if result is None:
                result = np.empty((value.shape[0], len(columns[GROUP])), np.result_type(value, *theta.values()))
            result[:, rows] = value
        assert result is not None
        return result

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        size = next(iter(theta.values())).shape[0]
        slopes: dict[str, NDArray[Any]] = {p.name: np.zeros((size, len(columns[GROUP]))) for p in self.parameters}
        for (rows, part, its), group in zip(self._split(theta, columns), self.groups, strict=True):
            for name, slope in self._slopes(its, part).items():
                slopes[name if name in self.shared else self.own(name, group)][:, rows] = slope
        return slopes

    def _slopes(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """The law's own derivatives, or those by complex steps."""
        if hasattr(self.law, "gradient"):
            found: dict[str, NDArray[Any]] = self.law.gradient(theta, columns)
            return found
        if isinstance(self.law, AdditiveLaw):
            return _additive_slopes(self.law, theta, columns)
        slopes = {}
        for name, value in theta.items():
            step = _COMPLEX_STEP * np.maximum(np.abs(value), 1.0)
            slopes[name] = self.law.value({**theta, name: value + 1j * step}, columns).imag / step
        return slopes

    def _split(self, theta: Theta, columns: Columns) -> list[tuple[NDArray[np.bool_], dict[str, Any], dict[str, Any]]]:
        """Of each group: its rows, their prepared columns, and the law's parameters."""
        parts = []
        for k, group in enumerate(self.groups):
            rows = columns[GROUP] == k + 1
            part = {name: values[rows] for name, values in columns.items() if name != GROUP}
            its = {
                p.name: theta[p.name if p.name in self.shared else self.own(p.name, group)] for p in self.law.parameters
            }
            parts.append((rows, part, its))
        return parts

    def _of(self, p: Parameter, group: str) -> Parameter:
        """A group's own parameter, with the names of its own exponents."""

        def renamed(part: str | float) -> str | float:
            return self.own(part, group) if isinstance(part, str) and part not in self.shared else part

        falls = {column: renamed(power) for column, power in p.falls.items()}
        return replace(p, name=self.own(p.name, group), falls=falls, power=renamed(p.power))


def _additive_slopes(law: AdditiveLaw, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
    """Derivatives of a sum of terms A / x^alpha and constants by each parameter, each [B, n]."""
    slopes: dict[str, Any] = {p.name: 0.0 for p in law.parameters}
    for p in law.parameters:
        if p.role not in ("amplitude", "constant"):
            continue
        shape = np.ones_like(next(iter(columns.values())))
        for column, power in p.falls.items():
            shape = shape * columns[column] ** -(theta[power] if isinstance(power, str) else power)
        slopes[p.name] = slopes[p.name] + shape
        for column, power in p.falls.items():
            if isinstance(power, str):
                slopes[power] = slopes[power] - theta[p.name] * shape * np.log(columns[column])
    return slopes
