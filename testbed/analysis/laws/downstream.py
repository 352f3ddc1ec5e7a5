"""Laws of downstream accuracy: straight from compute or from N and D, and from a loss in two steps.

`log_accuracy` has the same laws in the logarithm of accuracy, in which their authors fit them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Parameter, Theta, amplitude, constant, exponent, fraction, scale


class Krajewski(Law):
    """Accuracy against training FLOPs at one ratio of tokens to parameters, arXiv:2512.08894, equation 2.

    -log Q' = A / C^alpha of the accuracy Q' = (Q - Q_random) / (1 - Q_random) above guessing, which has
    no irreducible term: unlimited compute answers everything (`krajewski_max` has one). The paper knows
    Q_random (one over the number of choices; 0 where nothing can be guessed): hold it by
    fixed={"Q_random": 0.25}. Left free it is fitted, for means over tasks of different chance. The paper
    fits only points at least .05 above chance; `accuracy` between 0 and 1. Residuals are of the accuracy;
    `krajewski_log` fits with the authors' objective.
    """

    name = "krajewski"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        fraction("Q_random", (0.01, 0.6)),
        amplitude("A", {"flops": "alpha"}, start=(0.1, 8.0), linear=False),
        exponent("alpha", (0.02, 1.0)),
    )
    columns: ClassVar[tuple[str, ...]] = ("flops",)
    formula = r"Q = Q_{random} + (1 - Q_{random}) \exp\left(-\frac{A}{C^{\alpha}}\right)"
    source = "arXiv:2512.08894, eq. 2"
    response = "accuracy"
    space = "linear"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Accuracy [B, n]."""
        missed = sum(theta[a] * power for a, _, _, power in self._terms(theta, columns))
        return np.asarray(theta["Q_random"] + (1 - theta["Q_random"]) * np.exp(-missed))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        terms = self._terms(theta, columns)
        above = np.exp(-sum(theta[a] * power for a, _, _, power in terms))
        by_missed = -(1 - theta["Q_random"]) * above
        slopes = {"Q_random": 1 - above}
        for a, alpha, column, power in terms:
            slopes[a] = by_missed * power
            slopes[alpha] = -by_missed * theta[a] * power * np.log(columns[column])
        return slopes

    def _terms(self, theta: Theta, columns: Columns) -> list[tuple[str, str, str, NDArray[Any]]]:
        """The terms of -log Q': factor, exponent, column, and the column to that exponent [B, n]."""
        falls = [(p.name, str(alpha), column) for p in self.parameters for column, alpha in p.falls.items()]
        return [(a, alpha, column, columns[column] ** -theta[alpha]) for a, alpha, column in falls]


class KrajewskiND(Krajewski):
    """Accuracy against N and D at any ratio of tokens to parameters, arXiv:2512.08894, equation 4.

    As `krajewski`, with -log Q' = A / N^alpha + B / D^beta.
    """

    name = "krajewski_nd"
    parameters = (
        Krajewski.parameters[0],
        amplitude("A", {"n": "alpha"}, start=(0.05, 4.0), linear=False),
        amplitude("B", {"tokens": "beta"}, start=(0.05, 4.0), linear=False),
        exponent("alpha", (0.03, 1.5)),
        exponent("beta", (0.03, 1.5)),
    )
    columns = ("n", "tokens")
    formula = r"Q = Q_{random} + (1 - Q_{random}) \exp\left(-\frac{A}{N^{\alpha}} - \frac{B}{D^{\beta}}\right)"
    source = "arXiv:2512.08894, eq. 4"


class KrajewskiMax(Krajewski):
    """As `krajewski` with a highest accuracy, arXiv:2512.08894, equation 10 (6 in the authors' code).

    -log Q' = A / C^alpha + E, so Q' ends at exp(-E): answers that are wrong or ambiguous in the benchmark.
    """

    name = "krajewski_max"
    parameters = (*Krajewski.parameters, constant("E", start=(0.003, 0.6), linear=False))
    formula = r"Q = Q_{random} + (1 - Q_{random}) \exp\left(-\frac{A}{C^{\alpha}} - E\right)"
    source = "arXiv:2512.08894, eq. 10"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Accuracy [B, n]."""
        above = super().value({**theta, "Q_random": 0 * theta["E"]}, columns) * np.exp(-theta["E"])
        return np.asarray(theta["Q_random"] + (1 - theta["Q_random"]) * above)

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        highest = np.exp(-theta["E"])
        slopes = {name: slope * highest for name, slope in super().gradient(theta, columns).items()}
        above = (self.value(theta, columns) - theta["Q_random"]) / (1 - theta["Q_random"])
        return slopes | {"Q_random": 1 - above, "E": -(1 - theta["Q_random"]) * above}


class Bhagia(Law):
    """Accuracy against a loss, the second step of two, arXiv:2412.04403: a sigmoid that falls with the loss.

    The first step is any law of that loss (the paper's: the loss of the task's right answers, in bits
    per byte; a validation loss serves too). The paper writes a / (1 + exp(-k (L - L_0))) + b; its k has
    the sign turned here, so that k is above 0, b is the accuracy at a high loss, hence of guessing
    (hold it by fixed={"b": 0.25}), and b + a the accuracy at a low one. `accuracy` between 0 and 1. Points
    that all lie on one side of L_0 do not show the other plateau: then a or b is not identified, and a
    forecast beyond them is worth nothing.
    """

    name = "bhagia"
    parameters = (
        fraction("a", (0.1, 0.95)),
        constant("b"),
        scale("k", (0.3, 30.0)),
        scale("L_0", (0.3, 1.5), column="loss"),
    )
    columns = ("loss",)
    formula = r"Q = b + a \left(1 + \exp(k (L - L_0))\right)^{-1}"
    source = "arXiv:2412.04403, the second step"
    response = "accuracy"
    space = "linear"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Accuracy [B, n]; the sigmoid as a hyperbolic tangent, which does not overflow."""
        falling = (1 - np.tanh(theta["k"] * (columns["loss"] - theta["L_0"]) / 2)) / 2
        return np.asarray(theta["b"] + theta["a"] * falling)
