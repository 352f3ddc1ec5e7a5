"""How many tokens an adversary controls by changing activations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, scale


class Proportional(Law):
    """The most tokens t_max that an attack on a activations of a model controls, Fort, arXiv:2312.02780: t_max = kappa a.

    a counts attacked activations (numbers, not tokens); kappa is the attack's multiplier for one model.
    """

    name = "proportional"
    parameters = (scale("kappa", (1e-4, 10.0), linear=True),)
    columns = ("activations",)
    formula = r"t_{max} = \kappa a"
    source = "arXiv:2312.02780, the attack multiplier"
    response = "controlled_tokens"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Tokens [B, n]."""
        return np.asarray(theta["kappa"] * columns["activations"])
