"""The log-linear laws of Yan et al., arXiv:2505.07858: how often a draft model's tokens are accepted."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, real


class YanTokens(Law):
    """Acceptance in speculative decoding against the draft model's pretraining tokens, arXiv:2505.07858, theorem 1.1.

    `acceptance` in whatever the table holds, a rate or (as in the paper) accepted tokens a step; the
    logarithm is natural.
    """

    name = "yan_tokens"
    parameters = (real("a", linear=True), real("b", linear=True))
    columns: ClassVar[tuple[str, ...]] = ("tokens",)
    formula = r"Acceptance = b + a \log D"
    source = "arXiv:2505.07858, theorem 1.1"
    response = "acceptance"
    space = "linear"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Acceptance [B, n]."""
        return np.asarray(theta["b"] + theta["a"] * np.log(columns[self.columns[0]]))


class YanN(YanTokens):
    """Acceptance against the draft model's parameters N, arXiv:2505.07858, theorem 1.2; otherwise as `yan_tokens`."""

    name = "yan_n"
    columns = ("n",)
    formula = r"Acceptance = b + a \log N"
    source = "arXiv:2505.07858, theorem 1.2"
