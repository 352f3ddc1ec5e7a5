"""The learning curve of a data set whose utility decays each time it is repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, amplitude, constant, exponent, scale
from testbed.errors import TableError

_MOST_EPOCHS = 20_000


class Goyal(Law):
    """Loss after D tokens from a pool of U unique ones, arXiv:2404.07177, section 4.

    The first pass is a power law of utility b; the utility of every further pass is less, halved each
    `tau` passes: log(L - d) falls in pass j by b 2^(-(j-1)/tau) times the log of the growth of D. So a
    curve is continuous, and at whole epochs it is the paper's product. D and U in tokens (or examples).
    """

    name = "goyal"
    parameters = (
        amplitude("a", {"tokens": "b"}),
        constant("d"),
        exponent("b", (0.02, 1.0)),
        scale("tau", (0.5, 50.0)),
    )
    columns = ("tokens", "unique_tokens")
    formula = r"L = d + a U^{-b} \prod_{j=2} (\frac{D_j}{D_{j-1}})^{-b 2^{-(j-1)/\tau}}"
    source = "arXiv:2404.07177, sec. 4"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """Tokens; `growth` [n, passes], how much the logarithm of the tokens seen grew in each pass (the first: itself).

        TableError where a row has more passes than the law can tell apart.
        """
        tokens, unique = (np.asarray(columns[name], np.float64) for name in self.columns)
        epochs = tokens / unique
        if epochs.max() > _MOST_EPOCHS:
            raise TableError(
                f"tokens / unique_tokens is {epochs.max():.3g} in row {int(epochs.argmax())}; goyal accepts up to "
                f"{_MOST_EPOCHS} epochs; check the units of both columns or leave such rows out"
            )
        passes = np.arange(1, max(int(np.ceil(epochs.max())), 1))
        seen = np.clip(epochs[:, None], passes, passes + 1)
        first = np.log(np.minimum(tokens, unique))
        return {"tokens": tokens, "growth": np.column_stack([first, np.log(seen / passes)])}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        growth = columns["growth"]
        utility = np.exp(-np.log(2.0) * np.arange(growth.shape[1]) / theta["tau"])  # [B, passes]
        return np.asarray(theta["d"] + theta["a"] * np.exp(-theta["b"] * (utility @ growth.T)))
