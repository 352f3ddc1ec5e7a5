"""The laws of downstream accuracy in its logarithm, in which Krajewski et al. fit them."""

from __future__ import annotations

from testbed.analysis.laws.law import AdditiveLaw, amplitude, constant, exponent


class KrajewskiLog(AdditiveLaw):
    """-log Q' against training FLOPs, arXiv:2512.08894, equation 2, in the space of the authors' objective.

    The response is -log Q' of the accuracy above guessing, Q' = (Q - Q_random) / (1 - Q_random), for a
    known Q_random: `--column "neg_log_accuracy=-log((accuracy - 0.25) / 0.75)"`. Residuals are of its
    logarithm, and `--objective ls` makes that the authors' least squares of log(-log Q') on log C. They leave
    out accuracies below chance + .05 (`--where "accuracy > 0.3"`), where the logarithm is mostly noise.
    """

    name = "krajewski_log"
    parameters = (amplitude("A", {"flops": "alpha"}, start=(0.1, 3.0)), exponent("alpha", (0.02, 1.0)))
    columns = ("flops",)
    formula = r"-\log Q' = \frac{A}{C^{\alpha}}"
    source = "arXiv:2512.08894, eq. 2"
    response = "neg_log_accuracy"


class KrajewskiNDLog(AdditiveLaw):
    """-log Q' against N and D, arXiv:2512.08894, equation 4, by the authors' objective: Huber (1e-3) of log(-log Q').

    The response as in `krajewski_log`.
    """

    name = "krajewski_nd_log"
    parameters = (
        amplitude("A", {"n": "alpha"}, start=(0.05, 3.0)),
        amplitude("B", {"tokens": "beta"}, start=(0.05, 3.0)),
        exponent("alpha", (0.03, 1.5)),
        exponent("beta", (0.03, 1.5)),
    )
    columns = ("n", "tokens")
    formula = r"-\log Q' = \frac{A}{N^{\alpha}} + \frac{B}{D^{\beta}}"
    source = "arXiv:2512.08894, eq. 4"
    response = "neg_log_accuracy"


class KrajewskiMaxLog(AdditiveLaw):
    """-log Q' against training FLOPs with a highest accuracy exp(-E), arXiv:2512.08894, equation 10 (6 in the authors' code).

    By the authors' objective, Huber (1e-3) of log(-log Q'). The response as in `krajewski_log`.
    """

    name = "krajewski_max_log"
    parameters = (*KrajewskiLog.parameters, constant("E", start=(0.01, 0.95)))
    columns = ("flops",)
    formula = r"-\log Q' = \frac{A}{C^{\alpha}} + E"
    source = "arXiv:2512.08894, eq. 10"
    response = "neg_log_accuracy"
