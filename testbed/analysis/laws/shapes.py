"""Curves that worsen with scale, for good or for a while.

McKenzie et al. (arXiv:2306.09479) collected tasks on which larger models do worse, Wei et al.
(arXiv:2211.02011) showed that most of them turn again at larger scale. Both show curves and give no
equation; the two forms here are this package's, the simplest that have such a shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, amplitude, constant, exponent, real, scale


class InverseScaling(Law):
    """A loss (or an error) that rises with compute towards a plateau: a power law turned over.

    Shape of arXiv:2306.09479; the form is this package's. Larger models of that paper's tasks may turn
    again: what lies beyond the data is not what a plateau says.
    """

    name = "inverse_scaling"
    parameters = (amplitude("A", {"flops": "alpha"}), constant("L_inf"), exponent("alpha", (0.02, 1.5)))
    columns = ("flops",)
    formula = r"L = L_{inf} - \frac{A}{C^{\alpha}}"
    source = "arXiv:2306.09479 shows the shape; no equation there"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        return np.asarray(theta["L_inf"] - theta["A"] * columns["flops"] ** -theta["alpha"])


class UShape(Law):
    """An accuracy that first falls with compute and then rises, or the reverse: a parabola in log C.

    Shape of arXiv:2211.02011; the form is this package's, good around the turning point C_0 (in FLOPs)
    and nowhere else, since it has no bounds: beyond the fitted compute it forecasts most public U-shaped
    tasks worse than their mean does. Q_0 is the accuracy there; k above 0 is a valley, below 0 a hill.
    """

    name = "u_shape"
    parameters = (real("Q_0", linear=True), real("k", linear=True), scale("C_0", (1e-4, 1e4), column="flops"))
    columns = ("flops",)
    formula = r"Q = Q_0 + k \left(\log(C/C_0)\right)^2"
    source = "arXiv:2211.02011 shows the shape; no equation there"
    response = "accuracy"
    space = "linear"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Accuracy [B, n]."""
        return np.asarray(theta["Q_0"] + theta["k"] * np.log(columns["flops"] / theta["C_0"]) ** 2)
