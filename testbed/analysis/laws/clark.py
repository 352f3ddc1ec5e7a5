"""L(N, E) of routed language models: experts are worth parameters, up to a point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, real, scale


class Routed(Law):
    """The unified law of routed models of Clark et al., arXiv:2202.01169, equations 1 and 2, at one token budget.

    N parameters that one token meets (n_dense), E experts, 1 in a dense model. E^ is E that matters only
    between E_start and E_max: 1/E^ = 1/(E - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max. Logarithms to base 10.
    """

    name = "routed"
    parameters = (
        real("a", (-0.3, 0.0)),
        real("b", (-0.5, 0.0)),
        real("c", (-0.02, 0.06)),
        real("d", (0.3, 2.5)),
        scale("E_start", (0.5, 10.0)),
        scale("E_max", (30.0, 3000.0)),
    )
    columns = ("n_dense", "experts")
    formula = r"\log L = a \log N + b \log E^ + c \log N \log E^ + d"
    source = "arXiv:2202.01169, eq. 1-2"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        n, e = np.log10(columns["n_dense"]), np.log10(_effective(theta, columns))
        return np.asarray(10 ** (theta["a"] * n + theta["b"] * e + theta["c"] * n * e + theta["d"]))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        n, experts = np.log10(columns["n_dense"]), _effective(theta, columns)
        e, loss = np.log10(experts), self.value(theta, columns)
        scaled = loss * np.log(10)
        start = 1 / (1 / theta["E_start"] - 1 / theta["E_max"])
        # 1/E^ = 1/(E - 1 + start) + 1/E_max, and start moves with both
        through = (start / (columns["experts"] - 1 + start)) ** 2
        by_experts = loss * (theta["b"] + theta["c"] * n) * experts
        return {
            "a": scaled * n,
            "b": scaled * e,
            "c": scaled * n * e,
            "d": scaled,
            "E_start": by_experts * through / theta["E_start"] ** 2,
            "E_max": by_experts * (1 - through) / theta["E_max"] ** 2,
        }


def _effective(theta: Theta, columns: Columns) -> NDArray[Any]:
    """E^ [B, n], from E_start at one expert up to E_max."""
    ceiling = 1 / theta["E_max"]
    start = 1 / (1 / theta["E_start"] - ceiling)
    return np.asarray(1 / (1 / (columns["experts"] - 1 + start) + ceiling))
