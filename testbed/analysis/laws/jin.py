"""L(N, D) of models pruned while they train: N is the mean parameter count over training."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.laws.law import AdditiveLaw, amplitude, constant, exponent


class Sparse(AdditiveLaw):
    """The law of sparse pre-training of Jin et al., arXiv:2501.12486: the additive form of the mean parameter count.

    n_average is the count of parameters not pruned, averaged over training tokens (see `average_count`; a
    dense model's is its size); D tokens; E is the loss at infinite both, in nats/token.
    """

    name = "sparse"
    parameters = (
        amplitude("A", {"n_average": "alpha"}),
        amplitude("B", {"tokens": "beta"}),
        constant("E"),
        exponent("alpha"),
        exponent("beta"),
    )
    columns = ("n_average", "tokens")
    formula = r"L = E + \frac{A}{N_{avg}^{\alpha}} + \frac{B}{D^{\beta}}"
    source = "arXiv:2501.12486, the law of average parameter count"


def average_count(
    dense: ArrayLike, final: ArrayLike, begin: float = 0.25, end: float = 0.75, power: float = 3.0
) -> NDArray[np.float64]:
    """The mean parameter count of gradual pruning from `dense` to `final` parameters between two shares of training.

    In between the count falls as final + (dense - final) (1 - t)^power, t from 0 to 1 (cubic in
    arXiv:1710.01878). Numbers or arrays; the default shares are those that arXiv:2501.12486 finds best.
    """
    dense, final = np.asarray(dense, np.float64), np.asarray(final, np.float64)
    if not 0 <= begin <= end <= 1:
        raise ValueError(f"begin {begin:g} and end {end:g} must be shares of training, in this order")
    return np.asarray(final + (dense - final) * (begin + (end - begin) / (power + 1)))
