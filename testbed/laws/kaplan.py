"""L(N, D) = E + (A N^-a + B / D)^b."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.laws.law import Columns, Parameter, Theta


class Kaplan:
    """The interacting form of Kaplan et al., arXiv:2001.08361, equation 1.5, with an irreducible loss E.

    In the paper's letters A = N_c^a, B = D_c, a = alpha_N / alpha_D, b = alpha_D: the exponent of N
    alone is a b, that of D alone is b. N parameters, D tokens, E in nats/token.
    """

    name = "kaplan"
    parameters = (
        Parameter("A", "amplitude", (0.05, 0.6), "n", "a", power="b"),
        Parameter("B", "amplitude", (0.05, 0.6), "tokens", 1.0, power="b"),
        Parameter("E", "constant", (0.1, 0.95)),
        Parameter("a", "exponent", (0.3, 2.0)),
        Parameter("b", "exponent", (0.1, 0.8)),
    )
    columns = ("n", "tokens")
    formula = r"L = E + \left(\frac{A}{N^{a}} + \frac{B}{D}\right)^{b}"
    source = "arXiv:2001.08361, eq. 1.5, plus E"

    def loss(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        size = theta["A"] * columns["n"] ** -theta["a"]
        return theta["E"] + (size + theta["B"] / columns["tokens"]) ** theta["b"]

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `loss` by each parameter, each [B, n]."""
        size = columns["n"] ** -theta["a"]
        inside = theta["A"] * size + theta["B"] / columns["tokens"]
        reducible = inside ** theta["b"]
        outer = theta["b"] * reducible / inside
        return {
            "A": outer * size,
            "B": outer / columns["tokens"],
            "E": np.ones_like(size),
            "a": -outer * theta["A"] * size * np.log(columns["n"]),
            "b": reducible * np.log(inside),
        }
