"""The interface of a law: named parameters with their domains, required columns, one formula, one source."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[np.float64]]
Theta = Mapping[str, NDArray[Any]]
ParameterRole = Literal["amplitude", "constant", "exponent", "scale", "fraction", "real"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law: its domain (by its role), and the range in which a search for it starts.

    Made by `amplitude`, `constant`, `exponent`, `scale`, `fraction` and `real`:

    >>> A = amplitude("A", {"n": "alpha"})
    >>> A.role, A.linear, dict(A.falls)
    ('amplitude', True, {'n': 'alpha'})

    `linear` says that the response is linear in it when the others are held: the search finds such a
    parameter in closed form. `falls` and `power` are those of `amplitude`, `column` that of `scale`.
    """

    name: str
    role: ParameterRole
    start: tuple[float, float]
    linear: bool = False
    falls: Mapping[str, str | float] = field(default_factory=dict)
    power: str | float = 1.0
    column: str | None = None


def amplitude(
    name: str,
    falls: Mapping[str, str | float] | None = None,
    *,
    power: str | float = 1.0,
    start: tuple[float, float] = (0.05, 0.6),
    linear: bool | None = None,
) -> Parameter:
    """A factor above 0 of a term: the A in A / N^alpha is `amplitude("A", {"n": "alpha"})`.

    `falls` maps each column to the exponent (a parameter's name or a number) with which the term falls
    along it, and `power` is the power to which the term enters: the solver moves the term's value at
    the centre of the data, so that amplitude and exponents do not trade off. `start` is that value as
    a share of the typical response. Linear unless it has a power or says otherwise.
    """
    return Parameter(name, "amplitude", start, power == 1.0 if linear is None else linear, dict(falls or {}), power)


def constant(name: str, *, start: tuple[float, float] = (0.1, 0.95), linear: bool = True) -> Parameter:
    """A term of at least 0 that no column moves, such as E; `start` as a share of the smallest response."""
    return Parameter(name, "constant", start, linear)


def exponent(name: str, start: tuple[float, float] = (0.05, 1.7)) -> Parameter:
    """A power between 0.001 and 6."""
    return Parameter(name, "exponent", start)


def scale(name: str, start: tuple[float, float], *, column: str | None = None, linear: bool = False) -> Parameter:
    """Any number above 0, such as R_D* or a critical batch; `start` in units of the column's middle where one is named."""
    return Parameter(name, "scale", start, linear, column=column)


def fraction(name: str, start: tuple[float, float] = (0.05, 0.95)) -> Parameter:
    """A number between 0 and 1, such as an accuracy's ceiling."""
    return Parameter(name, "fraction", start)


def real(name: str, start: tuple[float, float] = (-1.0, 1.0), *, linear: bool = False) -> Parameter:
    """Any number, of either sign."""
    return Parameter(name, "real", start, linear)


class Law(ABC):
    r"""A scaling law: named parameters, the columns it needs, and one formula of both.

    >>> class Log(Law):
    ...     name, columns, source = "log_law", ("n",), "an example"
    ...     parameters = (constant("E"), real("slope", linear=True))
    ...     formula = r"L = E - s \log N"
    ...
    ...     def value(self, theta, columns):
    ...         return theta["E"] - theta["slope"] * np.log(columns["n"])
    >>> from testbed.analysis.fit import fit_law
    >>> n = np.array([1e6, 1e7, 1e8, 1e9])
    >>> fit_law(Log(), {"n": n, "loss": 9 - 0.3 * np.log(n)}, n_boot=0).params.round(3).to_dict()
    {'E': 9.0, 'slope': 0.3}

    Where speed needs it a law may have `gradient(theta, columns)`: the derivatives of `value` by each
    parameter, each [B, n]. Without it the solver differentiates `value` by complex steps.
    """

    name: ClassVar[str]  # what a configuration and the command line call it
    parameters: ClassVar[tuple[Parameter, ...]]  # in the paper's letters
    columns: ClassVar[tuple[str, ...]]  # those of a table that it needs
    formula: ClassVar[str]  # in LaTeX
    source: ClassVar[str]  # paper and equation
    response: ClassVar[str] = "loss"  # the column that it predicts
    space: ClassVar[Literal["log", "linear"]] = "log"  # where residuals are taken; log needs a response above 0
    positive: ClassVar[bool] = True  # whether the columns must be above 0 (else only finite)
    ranges: ClassVar[
        Mapping[str, tuple[float, float]]
    ] = {}  # smallest and largest value of a column or the response, where `points.columns` does not say it
    priors: ClassVar[
        Mapping[str, tuple[float, float]]
    ] = {}  # for prediction: mean and sd of a parameter, a constant's of its log

    @abstractmethod
    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """The response [B, n]; `theta` holds each parameter as [B, 1], `columns` what `prepare` gave, [n].

        Use analytic numpy functions only, since parameters may be complex: no abs, minimum, maximum or
        comparison except on real parts.
        """

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """The columns that `value` receives, from the table's columns [n]; here those. Called once a table.

        A law of whole curves derives its own arrays, with first axis n, from step, lr_at_step and run.
        """
        return {name: np.asarray(columns[name], np.float64) for name in self.columns}


class AdditiveLaw(Law):
    """A law that is a sum of its amplitudes' terms A / x^alpha and its constants; the solver has a closed form for it."""

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """The sum of the terms [B, n]."""
        total: Any = 0.0
        for p in self.parameters:
            if p.role in ("amplitude", "constant"):
                term = theta[p.name]
                for column, power in p.falls.items():
                    term = term * columns[column] ** -(theta[power] if isinstance(power, str) else power)
                total = total + term
        return np.asarray(total + np.zeros_like(next(iter(columns.values()))))


def plain_formula(law: Law) -> str:
    r"""The law's formula as a line of text: \frac{A}{N^{a}} becomes A/N^a."""
    return _plain(re.sub(r"\\left|\\right", "", law.formula))


def _plain(latex: str) -> str:
    """Groups from the inside out, in parentheses where they are more than one factor."""
    group = r"\{([^{}]*)\}"
    before = ""
    while latex != before:
        before = latex
        latex = re.sub(rf"\\frac{group}{group}", lambda m: f"{_joined(m[1], '+')}/{_joined(m[2], ' +/')}", latex)
        latex = re.sub(rf"\^{group}", lambda m: f"^{_joined(m[1], ' +/^')}", latex)
        latex = re.sub(rf"\\sqrt{group}", r"sqrt(\1)", latex)
        latex = re.sub(rf"_{group}", r"_\1", latex)
    return re.sub(r"[\\{}]", "", latex)


def _joined(text: str, apart: str) -> str:
    """In parentheses where one of the signs stands outside of all parentheses."""
    outside = before = text
    while (outside := re.sub(r"\([^()]*\)", "", outside)) != before:
        before = outside
    return f"({text})" if any(sign in outside.strip() for sign in apart) else text
