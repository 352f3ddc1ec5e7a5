"""The laws of Isik et al., arXiv:2402.04177: what pretraining data is worth after finetuning on another task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import AdditiveLaw, Columns, Law, Theta, amplitude, constant, exponent


class IsikBleu(Law):
    """BLEU of a finetuned translation model against its pretraining tokens, arXiv:2402.04177: (log(A D^alpha))^beta.

    Holds where pretraining and task agree: elsewhere the score can fall with more pretraining. Over
    less than a few decades of D a change of beta is made up for by A and alpha, so intervals are wide.
    """

    name = "isik_bleu"
    parameters = (
        amplitude("A", {"rarity": "alpha"}, start=(1.0, 1e8), linear=False),
        exponent("alpha", (0.02, 5.0)),
        exponent("beta", (0.1, 3.0)),
    )
    columns = ("tokens",)
    formula = r"BLEU = \left(\log(A D^{\alpha})\right)^{\beta}"
    source = "arXiv:2402.04177, the law of BLEU"
    response = "bleu"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """1 / D, with which the term A D^alpha falls."""
        return {"rarity": 1.0 / np.asarray(columns["tokens"], np.float64)}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """BLEU [B, n] in the table's unit; not a number where A D^alpha is below 1."""
        return np.asarray((np.log(theta["A"]) - theta["alpha"] * np.log(columns["rarity"])) ** theta["beta"])


class IsikLoss(AdditiveLaw):
    """Cross-entropy of a finetuned model against its pretraining tokens D, arXiv:2402.04177, in nats/token."""

    name = "isik_loss"
    parameters = (amplitude("A", {"tokens": "alpha"}), constant("E"), exponent("alpha", (0.03, 1.5)))
    columns = ("tokens",)
    formula = r"L = E + \frac{A}{D^{\alpha}}"
    source = "arXiv:2402.04177, the law of downstream cross-entropy"
