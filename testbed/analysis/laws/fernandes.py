"""The law of Fernandes et al. for one task of a mixture: a share of the training is worth a share of the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, amplitude, constant, exponent, real
from testbed.errors import TableError


class Fernandes(Law):
    """Loss of one language pair of a multilingual model, by model size N and the pair's share p, arXiv:2302.09650.

    The paper finds L = beta_p N^-alpha + L_inf with exponent and L_inf the same for every share, so that
    a share p acts as the fraction f(p) = (beta_1 / beta_p)^(1 / alpha) of the parameters, and predicts
    unseen shares by f(p) = p + c_1 p^c_2 (1 - p)^c_3: that joint form is fitted here, with beta = beta_1
    and E its L_inf in nats/token. f(1) = 1, and c_1 above 0 says that the other tasks help.
    `share` above 0 up to 1; fit each language pair for itself.
    """

    name = "fernandes"
    parameters = (
        amplitude("beta", {"n": "alpha"}),
        constant("E"),
        exponent("alpha", (0.05, 1.0)),
        real("c_1", (-0.5, 1.5)),
        exponent("c_2", (0.1, 3.0)),
        exponent("c_3", (0.1, 3.0)),
    )
    columns = ("n", "share")
    formula = r"L = E + \beta \left((p + c_1 p^{c_2} (1 - p)^{c_3}) N\right)^{-\alpha}"
    source = "arXiv:2302.09650, the joint law with its approximate f(p)"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """N, p, and 1 - p, which is 1 with the weight 0 where p = 1: a power of 0 has no derivative there."""
        n, share = (np.asarray(columns[name], np.float64) for name in self.columns)
        if (share > 1).any():
            raise TableError(
                f"column share: found {share.max():g}, expected the share of one task, above 0 and up to 1; "
                "divide percentages by 100"
            )
        mixed = share < 1
        return {"n": n, "share": share, "rest": np.where(mixed, 1 - share, 1.0), "mixed": mixed.astype(np.float64)}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token; not a number where c_1 makes the fraction f negative."""
        size = self._fraction(theta, columns)[0] * columns["n"]
        return np.asarray(theta["E"] + theta["beta"] * size ** -theta["alpha"])

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        fraction, others = self._fraction(theta, columns)
        power = (fraction * columns["n"]) ** -theta["alpha"]
        reducible = theta["beta"] * power
        by_fraction = -theta["alpha"] * reducible / fraction
        return {
            "beta": power,
            "E": np.ones_like(power),
            "alpha": -reducible * np.log(fraction * columns["n"]),
            "c_1": by_fraction * others,
            "c_2": by_fraction * theta["c_1"] * others * np.log(columns["share"]),
            "c_3": by_fraction * theta["c_1"] * others * np.log(columns["rest"]),
        }

    @staticmethod
    def _fraction(theta: Theta, columns: Columns) -> tuple[NDArray[Any], NDArray[Any]]:
        """f(p), and p^c_2 (1 - p)^c_3, each [B, n]."""
        others = columns["share"] ** theta["c_2"] * columns["rest"] ** theta["c_3"] * columns["mixed"]
        return np.asarray(columns["share"] + theta["c_1"] * others), np.asarray(others)
