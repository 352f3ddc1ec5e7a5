"""The laws of Kaplan et al., arXiv:2001.08361: power laws of one quantity, and the coupled L(N, D)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import AdditiveLaw, Columns, Law, Parameter, Theta, amplitude, constant, exponent


class KaplanN(AdditiveLaw):
    """L(N) of models trained to convergence, arXiv:2001.08361, equation 1.1; A = N_c^alpha_N. N without embeddings."""

    name = "kaplan_n"
    parameters = (amplitude("A", {"n": "alpha"}), exponent("alpha"))
    columns = ("n",)
    formula = r"L = \frac{A}{N^{\alpha}}"
    source = "arXiv:2001.08361, eq. 1.1"


class KaplanD(AdditiveLaw):
    """L(D) of large models stopped early, arXiv:2001.08361, equation 1.2; B = D_c^alpha_D."""

    name = "kaplan_d"
    parameters = (amplitude("B", {"tokens": "beta"}), exponent("beta"))
    columns = ("tokens",)
    formula = r"L = \frac{B}{D^{\beta}}"
    source = "arXiv:2001.08361, eq. 1.2"


class KaplanC(AdditiveLaw):
    """L(C) along the compute frontier, arXiv:2001.08361, equation 1.3; A = C_c^alpha_C.

    C in FLOPs is the paper's C_min: what a run would take at a batch far below the critical one.
    """

    name = "kaplan_c"
    parameters = (amplitude("A", {"flops": "alpha"}), exponent("alpha"))
    columns = ("flops",)
    formula = r"L = \frac{A}{C^{\alpha}}"
    source = "arXiv:2001.08361, eq. 1.3"


class KaplanND(Law):
    """The coupled form L(N, D), arXiv:2001.08361, equation 1.5, which has no irreducible loss.

    In the paper's letters A = N_c^a, B = D_c, a = alpha_N / alpha_D, b = alpha_D: the exponent of N
    alone is a b, that of D alone is b. N parameters without embeddings, D tokens.
    """

    name = "kaplan_nd"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        amplitude("A", {"n": "a"}, power="b"),
        amplitude("B", {"tokens": 1.0}, power="b"),
        exponent("a", (0.3, 2.0)),
        exponent("b", (0.05, 0.8)),
    )
    columns = ("n", "tokens")
    formula = r"L = \left(\frac{A}{N^{a}} + \frac{B}{D}\right)^{b}"
    source = "arXiv:2001.08361, eq. 1.5"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        inside = theta["A"] * columns["n"] ** -theta["a"] + theta["B"] / columns["tokens"]
        return np.asarray(inside ** theta["b"])

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        size = columns["n"] ** -theta["a"]
        inside = theta["A"] * size + theta["B"] / columns["tokens"]
        reducible = inside ** theta["b"]
        outer = theta["b"] * reducible / inside
        return {
            "A": outer * size,
            "B": outer / columns["tokens"],
            "a": -outer * theta["A"] * size * np.log(columns["n"]),
            "b": reducible * np.log(inside),
        }


class Kaplan(KaplanND):
    """The coupled form with an irreducible loss E in nats/token, which the paper leaves out."""

    name = "kaplan"
    parameters = (*KaplanND.parameters[:2], constant("E"), *KaplanND.parameters[2:])
    formula = r"L = E + \left(\frac{A}{N^{a}} + \frac{B}{D}\right)^{b}"
    source = "arXiv:2001.08361, eq. 1.5, plus E"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        return np.asarray(theta["E"] + super().value(theta, columns))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        slopes = super().gradient(theta, columns)
        return slopes | {"E": np.ones_like(slopes["A"])}
