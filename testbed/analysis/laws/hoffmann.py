"""L(N, D) = E + A / N^alpha + B / D^beta, with exponents of its own for each, or one for both."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import ClassVar

from testbed.analysis.laws.law import AdditiveLaw, amplitude, constant, exponent


class Hoffmann(AdditiveLaw):
    """The additive form of Hoffmann et al., arXiv:2203.15556, equation 2 (approach 3).

    N parameters, D tokens; E is the loss at infinite both, in nats/token.
    """

    name = "hoffmann"
    parameters = (
        amplitude("A", {"n": "alpha"}),
        amplitude("B", {"tokens": "beta"}),
        constant("E"),
        exponent("alpha"),
        exponent("beta"),
    )
    columns = ("n", "tokens")
    formula = r"L = E + \frac{A}{N^{\alpha}} + \frac{B}{D^{\beta}}"
    source = "arXiv:2203.15556, eq. 2"
    priors: ClassVar[Mapping[str, tuple[float, float]]] = {
        "alpha": (0.33, 0.15),
        "beta": (0.36, 0.20),
        "E": (log(1.75), 0.40),
    }  # wide about all published fits


class HoffmannTied(AdditiveLaw):
    """The additive form with one exponent for N and D, so that the optimal D/N does not move with compute."""

    name = "hoffmann_tied"
    parameters = (
        amplitude("A", {"n": "alpha"}),
        amplitude("B", {"tokens": "alpha"}),
        constant("E"),
        exponent("alpha"),
    )
    columns = ("n", "tokens")
    formula = r"L = E + \frac{A}{N^{\alpha}} + \frac{B}{D^{\alpha}}"
    source = "arXiv:2203.15556, eq. 2 with alpha = beta (as arXiv:2305.16264, app. A)"
