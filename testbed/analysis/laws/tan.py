"""Reinforcement learning after pre-training: a power law of compute or data whose exponent saturates with model size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Parameter, Theta, real, scale


class Reinforcement(Law):
    """Error rate after X FLOPs of reinforcement learning, Tan et al., arXiv:2509.25300: log L = -k(N) log X + E(N).

    L = 1 - pass@1 on held-out problems, N all parameters, logarithms to base 10, and the learning efficiency
    k(N) = K / (1 + N_0 / N), which saturates in large models. The paper's other resource X is data:
    --column flops=COLUMN names the column of X. One E for all sizes here; the paper also gives every model
    its own, or the curve of `reinforcement_n`.
    """

    name = "reinforcement"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        real("E", (-2.0, 6.0)),
        scale("K", (0.01, 1.0)),
        scale("N_0", (0.01, 30.0), column="n"),
    )
    columns = ("n", "flops")
    formula = r"\log_{10} L = E - \frac{K}{1 + N_0 / N} \log_{10} X"
    source = "arXiv:2509.25300, the law of compute and data"
    response = "error"
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"error": (0.0, np.inf)}  # the formula itself has no ceiling

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Error rate [B, n]."""
        return np.asarray(10 ** (self._start(theta, columns) - self._efficiency(theta, columns) * _log(columns)))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        by_log = self.value(theta, columns) * np.log(10.0)
        efficiency = self._efficiency(theta, columns)
        by_efficiency = -by_log * _log(columns)
        slopes = {
            "K": by_efficiency * efficiency / theta["K"],
            "N_0": -by_efficiency * efficiency / (columns["n"] + theta["N_0"]),
        }
        return slopes | {name: by_log * slope for name, slope in self._start_slopes(theta, columns).items()}

    @staticmethod
    def _efficiency(theta: Theta, columns: Columns) -> NDArray[Any]:
        return np.asarray(theta["K"] / (1 + theta["N_0"] / columns["n"]))

    def _start(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """E of each row."""
        return np.asarray(theta["E"] + np.zeros_like(columns["n"]))

    def _start_slopes(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of E of each row by its parameters, each [B, n]."""
        return {"E": np.ones_like(columns["n"]) + 0 * theta["E"]}


class ReinforcementN(Reinforcement):
    """As `reinforcement`, with E(N) = E_max / (1 + N_1 / N), the variant of the authors' code for unseen model sizes."""

    name = "reinforcement_n"
    parameters = (
        real("E_max", (-2.0, 8.0)),
        *Reinforcement.parameters[1:],
        scale("N_1", (0.003, 10.0), column="n"),
    )
    formula = r"\log_{10} L = \frac{E_{max}}{1 + N_1 / N} - \frac{K}{1 + N_0 / N} \log_{10} X"
    source = "arXiv:2509.25300, the law of compute and data with E(N) of the authors' code"

    def _start(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        return np.asarray(theta["E_max"] / (1 + theta["N_1"] / columns["n"]))

    def _start_slopes(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        start = self._start(theta, columns)
        return {"E_max": start / theta["E_max"], "N_1": -start / (columns["n"] + theta["N_1"])}


def _log(columns: Columns) -> NDArray[np.float64]:
    return np.asarray(np.log10(columns["flops"]), np.float64)
