"""The loss on the way: the critical batch, the steps to one loss, and L(N, S) of a run of S steps at any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import AdditiveLaw, Columns, Law, Theta, amplitude, constant, exponent, scale

_STEPS = 7  # Newton steps; 6 reach double precision for any batch, from far above to far below the critical one


class CriticalBatch(AdditiveLaw):
    """The critical batch at a loss, Kaplan et al., arXiv:2001.08361, equation 5.3; refitted in arXiv:2403.06563.

    In tokens; at it a loss takes twice the steps and twice the tokens of the least possible. B = B_*,
    b = 1 / alpha_B in the paper's letters.
    """

    name = "critical_batch"
    parameters = (amplitude("B", {"loss": "b"}), exponent("b", (0.5, 6.0)))
    columns = ("loss",)
    response = "batch_tokens"
    formula = r"B_{crit} = \frac{B}{L^{b}}"
    source = "arXiv:2001.08361, eq. 5.3"


class StepsAtBatch(AdditiveLaw):
    """The steps S to one loss at a batch of B tokens, Kaplan et al., arXiv:2001.08361, section 5.1.

    (S / S_min - 1) (E / E_min - 1) = 1 with E = B S tokens, which is S = S_min + E_min / B. E_min tokens are
    the least (at a small batch), S_min the fewest steps (at a large one), E_min / S_min the critical batch.
    One row a run: the step at which it first reached the loss; fit each loss for itself.
    """

    name = "steps_at_batch"
    parameters = (amplitude("E_min", {"batch_tokens": 1.0}), constant("S_min"))
    columns = ("batch_tokens",)
    response = "steps"
    formula = r"S = S_{min} + \frac{E_{min}}{B}"
    source = "arXiv:2001.08361, sec. 5.1"


class KaplanNS(Law):
    """The loss of N parameters after S_min steps of a very large batch, Kaplan et al., arXiv:2001.08361, equation 5.6.

    S_min = S / (1 + B_crit / B) for S steps of a batch of B tokens; where all batches are far above the
    critical one it is S itself: --column min_steps=steps. `kaplan_trajectory` has B in it. N without
    embeddings, A = N_c^alpha_N.
    """

    name = "kaplan_ns"
    parameters = (
        amplitude("A", {"n": "alpha_N"}),
        amplitude("S_c", {"min_steps": 1.0}, power="alpha_S"),
        exponent("alpha_N", (0.03, 0.6)),
        exponent("alpha_S", (0.2, 1.5)),
    )
    columns = ("n", "min_steps")
    formula = r"L = \frac{A}{N^{\alpha_N}} + \left(\frac{S_c}{S_{min}}\right)^{\alpha_S}"
    source = "arXiv:2001.08361, eq. 5.6"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        size, least = self._parts(theta, columns)
        return np.asarray(size + least)

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        size, least = self._parts(theta, columns)
        return {
            "A": size / theta["A"],
            "S_c": theta["alpha_S"] * least / theta["S_c"],
            "alpha_N": -size * np.log(columns["n"]),
            "alpha_S": least * np.log(theta["S_c"] / columns["min_steps"]),
        }

    @staticmethod
    def _parts(theta: Theta, columns: Columns) -> tuple[NDArray[Any], NDArray[Any]]:
        size = theta["A"] * columns["n"] ** -theta["alpha_N"]
        return size, (theta["S_c"] / columns["min_steps"]) ** theta["alpha_S"]


class Trajectory(Law):
    """The loss after S steps of a batch of B tokens, Kaplan et al., arXiv:2001.08361, equations 5.3 to 5.6.

    S steps at batch B are worth S_min = S / (1 + B_crit / B) at a very large one, with B_crit = B_* / L^b
    of the loss itself, as arXiv:2403.06563 uses them to predict a whole curve; so the loss is the root of
    an equation. N parameters without embeddings; infinite data, and a loss past warm-up. In the paper's
    letters A = N_c^alpha_N, b = 1 / alpha_B.
    """

    name = "kaplan_trajectory"
    parameters = (
        amplitude("A", {"n": "alpha_N"}, linear=False),  # not linear: the other term moves with the loss
        amplitude("S_c", {"steps": 1.0}, power="alpha_S"),
        scale("B", (0.3, 3e5), column="batch_tokens"),
        exponent("alpha_N", (0.03, 0.6)),
        exponent("alpha_S", (0.2, 1.5)),
        exponent("b", (0.5, 6.0)),
    )
    columns = ("n", "steps", "batch_tokens")
    formula = r"L = \frac{A}{N^{\alpha_N}} + \left(\frac{S_c (1 + B L^{-b} / batch)}{S}\right)^{\alpha_S}"
    source = "arXiv:2001.08361, eq. 5.3-5.6"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token.

        In x = log L the equation x = log(right side) has a concave difference of its sides that rises, so
        Newton's steps from the loss of an infinite batch climb to the only root.
        """
        size = theta["A"] * columns["n"] ** -theta["alpha_N"]
        least = (theta["S_c"] / columns["steps"]) ** theta["alpha_S"]
        ratio = theta["B"] / columns["batch_tokens"]
        x = np.log(size + least)
        for _ in range(_STEPS):
            excess = ratio * np.exp(-theta["b"] * x)
            slow = least * (1 + excess) ** theta["alpha_S"]
            falls = theta["alpha_S"] * theta["b"] * excess / (1 + excess) * slow / (size + slow)
            x = x - (x - np.log(size + slow)) / (1 + falls)
        return np.asarray(np.exp(x))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        loss = self.value(theta, columns)
        n_part = columns["n"] ** -theta["alpha_N"]
        size = theta["A"] * n_part
        excess = theta["B"] / columns["batch_tokens"] * loss ** -theta["b"]
        slow = loss - size
        by_excess = theta["alpha_S"] * slow * excess / (1 + excess)
        back = 1 + by_excess * theta["b"] / loss  # the loss moves its own critical batch
        return {
            "A": n_part / back,
            "S_c": theta["alpha_S"] * slow / theta["S_c"] / back,
            "B": by_excess / theta["B"] / back,
            "alpha_N": -size * np.log(columns["n"]) / back,
            "alpha_S": slow * np.log(theta["S_c"] * (1 + excess) / columns["steps"]) / back,
            "b": -by_excess * np.log(loss) / back,
        }
