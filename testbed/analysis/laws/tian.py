"""Efficiency leverage: how many times its own compute a dense model needs to match a mixture of experts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, real, scale


class Leverage(Law):
    """The joint law of Tian et al., arXiv:2507.17702, equation 13 with the saturation of equation 10.

    EL = (A + A_start)^(a + d log10 C + gamma (log2 G)^2 + beta log2 G). A is the activation ratio,
    activated over all experts, shared ones counted in both; G the granularity 2 d_model / d_expert; C the
    training FLOPs without embeddings. The paper does not name its logarithms: with these bases its
    coefficients (table 2) give the leverage above 7 and the best granularity near 12 that it reports.
    Its A_max, 5e16 in its fit, is left out as infinite.
    """

    name = "leverage"
    parameters = (
        real("a", (-2.0, 3.0)),
        real("d", (-0.3, 0.1)),
        real("gamma", (-0.05, 0.1)),
        real("beta", (-0.5, 0.2)),
        scale("A_start", (1e-3, 0.3)),
    )
    columns = ("activation_ratio", "granularity", "flops")
    response = "leverage"
    formula = r"EL = (A + A_{start})^{(a + d \log_{10} C + \gamma (\log_2 G)^2 + \beta \log_2 G)}"
    source = "arXiv:2507.17702, eq. 10 and 13"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Leverage [B, n], above 1 where the mixture of experts is the more efficient."""
        grain = np.log2(columns["granularity"])
        exponent = (
            theta["a"] + theta["d"] * np.log10(columns["flops"]) + (theta["gamma"] * grain + theta["beta"]) * grain
        )
        return np.asarray((columns["activation_ratio"] + theta["A_start"]) ** exponent)
