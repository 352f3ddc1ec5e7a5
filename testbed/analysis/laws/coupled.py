"""L(N, D) whose two terms meet in one power, between Kaplan's coupled form and Hoffmann's additive one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, amplitude, constant, exponent


class Coupled(Law):
    """Six parameters, arXiv:2608.07222: k = 1 is Hoffmann's law, beta = 1 and E = 0 is Kaplan's.

    With k below 1 more data helps a larger model more. N parameters, D tokens, E in nats/token; the
    exponents along N and D alone are alpha k and beta k.
    """

    name = "coupled"
    parameters = (
        amplitude("A", {"n": "alpha"}, power="k"),
        amplitude("B", {"tokens": "beta"}, power="k"),
        constant("E"),
        exponent("alpha", (0.1, 2.5)),
        exponent("beta", (0.1, 2.5)),
        exponent("k", (0.15, 2.0)),
    )
    columns = ("n", "tokens")
    formula = r"L = E + \left(\frac{A}{N^{\alpha}} + \frac{B}{D^{\beta}}\right)^{k}"
    source = "arXiv:2608.07222"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        size, data = _powers(theta, columns)
        return np.asarray(theta["E"] + (theta["A"] * size + theta["B"] * data) ** theta["k"])

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        size, data = _powers(theta, columns)
        inside = theta["A"] * size + theta["B"] * data
        reducible = inside ** theta["k"]
        outer = theta["k"] * reducible / inside
        return {
            "A": outer * size,
            "B": outer * data,
            "E": np.ones_like(inside),
            "alpha": -outer * theta["A"] * size * np.log(columns["n"]),
            "beta": -outer * theta["B"] * data * np.log(columns["tokens"]),
            "k": reducible * np.log(inside),
        }


def _powers(theta: Theta, columns: Columns) -> tuple[Any, Any]:
    return columns["n"] ** -theta["alpha"], columns["tokens"] ** -theta["beta"]
