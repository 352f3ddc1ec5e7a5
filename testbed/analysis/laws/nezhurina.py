"""A power law of compute that saturates at both ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, amplitude, constant, exponent, scale


class Shifted(Law):
    """L(C) = E + A (C + B)^-alpha along the compute frontier, Nezhurina et al., arXiv:2506.04598.

    E is what no compute removes and B, in FLOPs, bends the curve to a plateau at small compute, where a
    model does no better than guessing. The paper fits error rates of vision-language models (the lowest
    in each bin of compute): name that column by --loss error. Runs far above B do not show it.
    """

    name = "shifted"
    parameters = (
        amplitude("A", {"flops": "alpha"}),
        constant("E"),
        scale("B", (1e-4, 1.0), column="flops"),
        exponent("alpha", (0.02, 1.0)),
    )
    columns = ("flops",)
    formula = r"L = E + A (C + B)^{-\alpha}"
    source = "arXiv:2506.04598, the law of compute"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss or error rate [B, n]."""
        return np.asarray(theta["E"] + theta["A"] * (columns["flops"] + theta["B"]) ** -theta["alpha"])

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        moved = columns["flops"] + theta["B"]
        power = moved ** -theta["alpha"]
        return {
            "A": power,
            "E": np.ones_like(power),
            "B": -theta["alpha"] * theta["A"] * power / moved,
            "alpha": -theta["A"] * power * np.log(moved),
        }
