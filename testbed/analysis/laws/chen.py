"""L(N, P): P parallel streams through one model are worth log P times more parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, amplitude, constant, exponent, scale


class Streams(Law):
    """The parallel scaling law of Chen et al. (ParScale), arXiv:2505.10475, at one token budget.

    N parameters without embeddings, P parallel streams (1 in an ordinary model), the logarithm natural;
    E is the loss at infinite N, in nats/token.
    """

    name = "parallel_streams"
    parameters = (
        amplitude("A", {"n": 1.0}, power="alpha"),
        constant("E"),
        exponent("alpha"),
        scale("k", (0.02, 5.0)),
    )
    columns = ("n", "streams")
    formula = r"L = E + \left(\frac{A}{(N (k \log P + 1))}\right)^{\alpha}"
    source = "arXiv:2505.10475, the parallel scaling law"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        worth = columns["n"] * (theta["k"] * np.log(columns["streams"]) + 1)
        return np.asarray(theta["E"] + (theta["A"] / worth) ** theta["alpha"])
