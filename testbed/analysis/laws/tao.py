"""L(N_nv, N_v, D): what the parameters of the vocabulary do, beside the others and the tokens."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Parameter, Theta, amplitude, exponent, scale

_TERMS = (("A1", "n_non_vocab", "alpha1"), ("A2", "n_vocab", "alpha2"), ("B", "tokens", "beta"))


class Vocabulary(Law):
    """The vocabulary law of Tao et al., arXiv:2407.13623, approach 3.

    Of N_nv parameters outside and N_v inside the vocabulary matrices and D tokens. The loss is less that
    of the tokenizer's unigram frequencies, so that vocabularies can be compared; it is below 0, in
    nats/token, and -E is its value at infinite everything. So residuals are of the loss itself.
    """

    name = "vocabulary"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        amplitude("A1", {"n_non_vocab": "alpha1"}),
        amplitude("A2", {"n_vocab": "alpha2"}),
        amplitude("B", {"tokens": "beta"}),
        scale("E", (0.5, 20.0), linear=True),
        exponent("alpha1"),
        exponent("alpha2"),
        exponent("beta"),
    )
    columns = ("n_non_vocab", "n_vocab", "tokens")
    formula = r"L = -E + \frac{A_1}{N_{nv}^{\alpha_1}} + \frac{A_2}{N_v^{\alpha_2}} + \frac{B}{D^{\beta}}"
    source = "arXiv:2407.13623, sec. 4.3"
    space = "linear"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss less the unigram loss [B, n], in nats/token."""
        terms = (theta[a] * columns[x] ** -theta[power] for a, x, power in _TERMS)
        return np.asarray(sum(terms) - theta["E"])

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        slopes = {}
        for a, x, power in _TERMS:
            slopes[a] = columns[x] ** -theta[power]
            slopes[power] = -theta[a] * slopes[a] * np.log(columns[x])
        return slopes | {"E": -np.ones_like(slopes["B"])}


class VocabularyTied(Vocabulary):
    """The vocabulary law with one exponent for N_nv and D, as its authors fit it."""

    name = "vocabulary_tied"
    parameters = (
        amplitude("A1", {"n_non_vocab": "alpha"}),
        amplitude("A2", {"n_vocab": "alpha2"}),
        amplitude("B", {"tokens": "alpha"}),
        scale("E", (0.5, 20.0), linear=True),
        exponent("alpha"),
        exponent("alpha2"),
    )
    formula = r"L = -E + \frac{A_1}{N_{nv}^{\alpha}} + \frac{A_2}{N_v^{\alpha_2}} + \frac{B}{D^{\alpha}}"
    source = "arXiv:2407.13623, sec. 4.3 with alpha1 = beta"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss less the unigram loss [B, n], in nats/token."""
        return super().value(_untied(theta), columns)

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        slopes = super().gradient(_untied(theta), columns)
        return slopes | {"alpha": slopes.pop("alpha1") + slopes.pop("beta")}


def _untied(theta: Theta) -> Theta:
    return {**theta, "alpha1": theta["alpha"], "beta": theta["alpha"]}
