"""L(t) = L0 + A / S1^alpha - C S2: a whole loss curve from its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, amplitude, constant, exponent, scale
from testbed.analysis.laws.lr_schedules import schedules


class Tissue(Law):
    """The law of learning-rate annealing of Tissue et al., arXiv:2408.11029, equation 1.

    S1 is the LR summed over the steps so far, warm-up included (the column lr_sum). S2 is the annealing
    area: the sum over steps of a momentum that decays by `momentum` a step and gains each drop of the LR,
    so that a rise, as in warm-up, counts against it. The drops between logged rows are placed by lr_sum,
    so the rows of a run must cover its schedule. L in nats/token.
    """

    name = "tissue"
    parameters = (
        constant("L0"),
        amplitude("A", {"lr_sum": "alpha"}),
        scale("C", (0.01, 100.0), linear=True),
        exponent("alpha", (0.05, 1.5)),
    )
    columns = ("run", "step", "lr_at_step", "lr_sum")
    formula = r"L = L_0 + \frac{A}{S_1^{\alpha}} - C S_2"
    source = "arXiv:2408.11029, eq. 1"
    positive = False

    def __init__(self, momentum: float = 0.999) -> None:
        self.momentum = momentum

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """S1 as lr_sum [n] and S2 as annealed [n]."""
        step = np.asarray(columns["step"], np.float64)
        annealed = np.zeros(len(step))
        for rows, changes in schedules(columns):
            passed = np.maximum(step[rows, None] - changes.step + 1, 0)
            annealed[rows] = (1 - self.momentum**passed) / (1 - self.momentum) @ changes.drop
        return {"lr_sum": np.asarray(columns["lr_sum"], np.float64), "annealed": annealed}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        forward = theta["A"] * columns["lr_sum"] ** -theta["alpha"]
        return np.asarray(theta["L0"] + forward - theta["C"] * columns["annealed"])
