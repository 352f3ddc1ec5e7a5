"""The laws of Gadre et al., arXiv:2403.08540: loss of over-trained models, and error as a function of loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import AdditiveLaw, Columns, Law, Theta, amplitude, constant, exponent


class Gadre(AdditiveLaw):
    """L(N, M) with one exponent for N and D, M = D / N tokens per parameter, arXiv:2403.08540, equation 4.

    In the letters of the authors' code: L = a N^-eta + b (sqrt(6) M N)^-eta + E. The paper writes the
    same law by compute C = 6 N D: its exponent is half of this eta, its b this b, its a this a 6^(eta/2).
    The authors fit it by unweighted least squares on the loss itself: loss="ls", space="linear".
    """

    name = "gadre"
    parameters = (
        amplitude("a", {"n": "eta"}),
        amplitude("b", {"scaled_tokens": "eta"}),
        constant("E"),
        exponent("eta", (0.05, 1.0)),
    )
    columns = ("n", "tokens_per_param")
    formula = r"L = E + \frac{a}{N^{\eta}} + \frac{b}{(\sqrt{6} M N)^{\eta}}"
    source = "arXiv:2403.08540, eq. 4"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """N, and sqrt(6) M N = sqrt(6) D."""
        n, tokens_per_param = (np.asarray(columns[name], np.float64) for name in self.columns)
        return {"n": n, "scaled_tokens": np.sqrt(6.0) * tokens_per_param * n}


class GadreError(Law):
    """Top-1 error of downstream tasks against loss, arXiv:2403.08540, equation 5: it rises with the loss L to eps.

    `loss` in nats/token, `error` = 1 - accuracy between 0 and 1, by least squares on the error itself.
    """

    name = "gadre_error"
    parameters = (constant("eps"), amplitude("k", {"exp_loss": "gamma"}), exponent("gamma", (0.1, 4.0)))
    columns = ("loss",)
    formula = r"Err = \epsilon - k e^{-\gamma L}"
    source = "arXiv:2403.08540, eq. 5"
    response = "error"
    space = "linear"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """exp(L), the perplexity, of which the second term is a power."""
        return {"exp_loss": np.exp(np.asarray(columns["loss"], np.float64))}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Error [B, n]."""
        return np.asarray(theta["eps"] - theta["k"] * columns["exp_loss"] ** -theta["gamma"])
