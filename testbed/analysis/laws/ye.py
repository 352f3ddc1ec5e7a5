"""The data mixing law: the loss on one domain against the shares of all domains in the training data."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Parameter, Theta, amplitude, constant, real


class Mixing(Law):
    """Loss on a domain whose share of a mixture of two is r, Ye et al., arXiv:2403.16952: L = c + k exp(t r).

    One model size and duration; the loss in nats/token. `share` from 0 to 1. Fit each validation domain
    for itself.
    """

    name = "mixing"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        constant("c"),
        amplitude("k", start=(0.05, 2.0)),
        real("t", (-6.0, 3.0)),
    )
    columns: ClassVar[tuple[str, ...]] = ("share",)
    formula = r"L = c + k \exp(t r)"
    source = "arXiv:2403.16952, the law of two domains"
    positive = False

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        return np.asarray(theta["c"] + theta["k"] * self._mixed(theta, columns))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        mixed = self._mixed(theta, columns)
        slopes = {"c": np.ones_like(mixed), "k": mixed}
        for t, column in self._pairs():
            slopes[t] = theta["k"] * mixed * columns[column]
        return slopes

    def _mixed(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        return np.asarray(np.exp(sum(theta[t] * columns[column] for t, column in self._pairs())))

    def _pairs(self) -> list[tuple[str, str]]:
        """The name of each t and its column."""
        return list(zip((p.name for p in self.parameters[2:]), self.columns, strict=True))


class Mixing3(Mixing):
    """Loss on one domain against the shares of three, Ye et al., arXiv:2403.16952: L = c + k exp(sum of t_j r_j).

    As shares sum to 1, one t is free: t_1 is 0 here, so k is the paper's k exp(t_1) and t_j its t_j - t_1.
    """

    name = "mixing3"
    parameters = (*Mixing.parameters[:2], *(real(f"t_{j}", (-6.0, 6.0)) for j in (2, 3)))
    columns = ("share_2", "share_3")
    formula = r"L = c + k \exp(t_2 r_2 + t_3 r_3)"
    source = "arXiv:2403.16952, the law of several domains"


class Mixing5(Mixing):
    """As `mixing3`, of five domains."""

    name = "mixing5"
    parameters = (*Mixing.parameters[:2], *(real(f"t_{j}", (-6.0, 6.0)) for j in (2, 3, 4, 5)))
    columns = ("share_2", "share_3", "share_4", "share_5")
    formula = r"L = c + k \exp(t_2 r_2 + t_3 r_3 + t_4 r_4 + t_5 r_5)"
    source = Mixing3.source
