"""L(N, D) = E + A / N^alpha + B / D^beta."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.laws.law import Columns, Parameter, Theta


class Hoffmann:
    """The additive form of Hoffmann et al., arXiv:2203.15556, equation 2 (approach 3).

    N parameters, D tokens; E is the loss at infinite both, in nats/token.
    """

    name = "hoffmann"
    parameters = (
        Parameter("A", "amplitude", (0.05, 0.6), "n", "alpha"),
        Parameter("B", "amplitude", (0.05, 0.6), "tokens", "beta"),
        Parameter("E", "constant", (0.1, 0.95)),
        Parameter("alpha", "exponent", (0.1, 1.0)),
        Parameter("beta", "exponent", (0.1, 1.0)),
    )
    columns = ("n", "tokens")
    formula = r"L = E + \frac{A}{N^{\alpha}} + \frac{B}{D^{\beta}}"
    source = "arXiv:2203.15556, eq. 2"

    def loss(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        size = theta["A"] * columns["n"] ** -theta["alpha"]
        data = theta["B"] * columns["tokens"] ** -theta["beta"]
        return theta["E"] + size + data

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `loss` by each parameter, each [B, n]."""
        size = columns["n"] ** -theta["alpha"]
        data = columns["tokens"] ** -theta["beta"]
        return {
            "A": size,
            "B": data,
            "E": np.ones_like(size),
            "alpha": -theta["A"] * size * np.log(columns["n"]),
            "beta": -theta["B"] * data * np.log(columns["tokens"]),
        }
