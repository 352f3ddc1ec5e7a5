"""The laws of Gao et al., arXiv:2210.10760: the true reward of a policy optimised against a learned one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, real


class GaoBon(Law):
    """Gold reward R of best-of-n sampling, arXiv:2210.10760, section 1: it peaks at d = alpha / (2 beta).

    d = sqrt(KL) in sqrt(nats), the distance from the initial policy, whose reward counts as 0; for the best
    of n samples KL = log n - (n - 1) / n.
    """

    name = "gao_bon"
    parameters = (real("alpha", linear=True), real("beta", linear=True))
    columns = ("distance",)
    formula = r"R = d (\alpha - \beta d)"
    source = "arXiv:2210.10760, sec. 1"
    response = "reward"
    space = "linear"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Gold reward [B, n]."""
        d = columns["distance"]
        return np.asarray(d * (theta["alpha"] - theta["beta"] * d))


class GaoRL(Law):
    """Gold reward R of reinforcement learning, arXiv:2210.10760, section 1: it peaks at d = exp(alpha / beta - 1).

    d = sqrt(KL) in sqrt(nats) as in `gao_bon`. The slope at d = 0 is infinite, so the form says nothing of
    the first steps. Direct alignment (DPO and its like) follows it too, with a win rate as R,
    arXiv:2406.02900.
    """

    name = "gao_rl"
    parameters = GaoBon.parameters
    columns = ("distance",)
    formula = r"R = d (\alpha - \beta \log d)"
    source = "arXiv:2210.10760, sec. 1; arXiv:2406.02900 for direct alignment"
    response = "reward"
    space = "linear"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Gold reward [B, n]."""
        d = columns["distance"]
        return np.asarray(d * (theta["alpha"] - theta["beta"] * np.log(d)))
