"""Solving a problem in k tries, and pass rates far below one percent."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import AdditiveLaw, Columns, Law, Parameter, Theta, amplitude, exponent, real


class PassAtK(Law):
    """pass@k of models trained with C FLOPs, arXiv:2512.08894, equation 5.

    p is the share of problems that at least one of k samples solves. log(-log p) is linear in log C, log k
    and their product; `exp_A` is the exponential of the paper's A. The response is -log p, in whose
    logarithm residuals are taken: `--column "neg_log_pass=-log(pass_at_k)"`, and `--objective ls` for the
    authors' objective. Leave out rows in which p is 0 or 1.
    """

    name = "pass_at_k"
    parameters = (
        amplitude("exp_A", {"flops": "alpha", "samples": "beta"}, start=(0.1, 8.0)),
        exponent("alpha", (0.02, 1.0)),
        exponent("beta", (0.05, 1.5)),
        real("delta", (-0.02, 0.02)),
    )
    columns = ("flops", "samples")
    formula = r"-\log p = \exp(A - \alpha \log C - \beta \log k + \delta \log C \log k)"
    source = "arXiv:2512.08894, eq. 5"
    response = "neg_log_pass"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """-log p [B, n]."""
        c, k = np.log(columns["flops"]), np.log(columns["samples"])
        return np.asarray(theta["exp_A"] * np.exp(-theta["alpha"] * c - theta["beta"] * k + theta["delta"] * c * k))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        c, k, missed = np.log(columns["flops"]), np.log(columns["samples"]), self.value(theta, columns)
        return {"exp_A": missed / theta["exp_A"], "alpha": -missed * c, "beta": -missed * k, "delta": missed * c * k}


class RepeatedSampling(AdditiveLaw):
    """-log of the mean pass@k against the number k of samples of one model, arXiv:2502.17578.

    b is the exponent of the density of problems that are hardly ever solved. The response is -log p:
    `--column "neg_log_pass=-log(pass_at_k)"`; fit each model and benchmark for itself, as with --by model.
    """

    name = "repeated_sampling"
    parameters = (amplitude("a", {"samples": "b"}, start=(0.1, 3.0)), exponent("b", (0.05, 2.0)))
    columns = ("samples",)
    formula = r"-\log p = \frac{a}{k^{b}}"
    source = "arXiv:2502.17578, as arXiv:2407.21787 found"
    response = "neg_log_pass"


class PassUntil(Law):
    """The rate at which models of N parameters pass, arXiv:2310.03262: PU = exp(-c / N^alpha).

    Rates of 1e-5 are as good as any: residuals are of their logarithms. Estimate a rate from samples drawn
    until r of them passed, K in all, by (r - 1) / (K - 1), which r / K overstates. It is `krajewski` in N
    with nothing to be guessed.
    """

    name = "passuntil"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        amplitude("c", {"n": "alpha"}, start=(0.5, 8.0), linear=False),
        exponent("alpha", (0.02, 1.0)),
    )
    columns = ("n",)
    formula = r"PU = \exp\left(-\frac{c}{N^{\alpha}}\right)"
    source = "arXiv:2310.03262, the task scaling law"
    response = "pass_rate"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Rate [B, n]."""
        return np.asarray(np.exp(-theta["c"] * columns["n"] ** -theta["alpha"]))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        power = columns["n"] ** -theta["alpha"]
        rate = np.exp(-theta["c"] * power)
        return {"c": -rate * power, "alpha": rate * theta["c"] * power * np.log(columns["n"])}
