"""What a law is: named parameters with their domains, required columns, one formula, one source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[np.float64]]
Theta = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Parameter:
    """One parameter and where a search for it starts.

    `role` says how it enters and so its domain: an "exponent" is above 0 and searched within `start`;
    an "amplitude" is above 0, searched as a share (within `start`) of the typical loss that its term
    has at the centre of the data; a "constant" is at least 0, searched as a share of the smallest
    loss. The term of an amplitude falls as `column` to the power of minus `exponent`, which is a
    parameter's name or a number, and enters the loss to the power of `power`, likewise; the solver
    centres it so that amplitude and exponent do not trade off.
    """

    name: str
    role: Literal["exponent", "amplitude", "constant"]
    start: tuple[float, float]
    column: str | None = None
    exponent: str | float | None = None
    power: str | float = 1.0


class Law(Protocol):
    """A scaling law. Adding one means one file with a class like this, and its line in LAWS.

    A law that is fitted often may also have `gradient(theta, columns)`: the derivatives of `loss` by
    each parameter, each [B, n]. Without it the solver differentiates `loss` by complex steps.
    """

    @property
    def name(self) -> str:
        """What a configuration and the command line call it."""
        ...

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters, in the paper's letters."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table that it needs."""
        ...

    @property
    def formula(self) -> str:
        """The formula in LaTeX."""
        ...

    @property
    def source(self) -> str:
        """Paper and equation."""
        ...

    def loss(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss in nats/token [B, n]; `theta` holds each parameter as [B, 1], `columns` arrays [n].

        Written with analytic numpy functions only, since it may be called with complex parameters.
        """
        ...


def plain_formula(law: Law) -> str:
    r"""The law's formula as a line of text: \frac{A}{N^{a}} becomes A/N^a."""
    group = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
    text = re.sub(rf"\\frac{group}{group}", r"\1/\2", law.formula)
    return re.sub(r"\\left|\\right|[\\{}]", "", text)
