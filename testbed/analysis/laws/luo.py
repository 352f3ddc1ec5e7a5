"""The multi-power law: a whole loss curve from its learning-rate schedule, each drop of the LR with a power law of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, amplitude, constant, exponent, scale
from testbed.analysis.laws.lr_schedules import schedules

_RATIO = 2.0  # drops of one row whose ages are within this factor of each other are taken as one


class MultiPower(Law):
    """The multi-power law of Luo et al., arXiv:2503.12811, equation 1.

    S1 is the LR summed over the steps so far, warm-up included (the column lr_sum), and S_k the part of
    it since the k-th change of the LR, which took it down by Delta_k to eta_k (up, in warm-up). The
    changes between logged rows are placed by lr_sum, so the rows of a run must cover its schedule. L in
    nats/token.
    """

    name = "multi_power"
    parameters = (
        constant("L0"),
        amplitude("A", {"lr_sum": "alpha"}),
        scale("B", (1.0, 1e4), linear=True),
        scale("C", (1e-3, 50.0)),
        exponent("alpha", (0.1, 1.2)),
        exponent("beta", (0.1, 1.5)),
        exponent("gamma", (0.1, 1.6)),
    )
    columns = ("run", "step", "lr_at_step", "lr_sum")
    formula = r"L = L_0 + \frac{A}{S_1^{\alpha}} - B \sum_k \Delta_k (1 - (1 + C \eta_k^{-\gamma} S_k)^{-\beta})"
    source = "arXiv:2503.12811, eq. 1"
    positive = False

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """S1 as lr_sum [n]; drops, their ages S_k and log_lrs [n, K], a row's drops of like age taken together."""
        lr_sum = np.asarray(columns["lr_sum"], np.float64)
        pairs = []
        for rows, changes in schedules(columns):
            age = lr_sum[rows, None] - changes.lr_sum
            row, change = np.nonzero((np.asarray(columns["step"])[rows, None] >= changes.step) & (age > 0))
            pairs.append((rows[row], age[row, change], changes.drop[change], changes.lr[change]))
        row, age, drop, lr = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        together = np.floor(np.log(age) / np.log(_RATIO)).astype(np.intp)
        together -= together.min()
        shape = len(lr_sum), int(together.max()) + 1
        cell = row * shape[1] + together

        def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(np.bincount(cell, values, shape[0] * shape[1]), np.float64).reshape(shape)

        size = np.abs(drop)
        weight = np.maximum(total(size), 1e-300)
        ages, log_lrs = total(size * age) / weight, total(size * np.log(np.maximum(lr, 1e-300))) / weight
        return {"lr_sum": lr_sum, "drops": total(drop), "ages": ages, "log_lrs": log_lrs}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        forward = theta["A"] * columns["lr_sum"] ** -theta["alpha"]
        return np.asarray(theta["L0"] + forward - theta["B"] * _reached(theta, columns)[0])

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        power = columns["lr_sum"] ** -theta["alpha"]
        annealed, inner, kept = _reached(theta, columns)
        ripening = kept - kept / inner  # of each drop: - d(kept) / d(log of C lr^-gamma S), over beta
        slope = theta["B"] * theta["beta"]
        return {
            "L0": np.ones_like(annealed),
            "A": power,
            "B": -annealed,
            "C": -slope / theta["C"] * ripening.sum(-1),
            "alpha": -theta["A"] * power * np.log(columns["lr_sum"]),
            "beta": -theta["B"] * np.einsum("bnk,bnk->bn", kept, np.log(inner)),
            "gamma": slope * np.einsum("bnk,nk->bn", ripening, columns["log_lrs"]),
        }


def _reached(theta: Theta, columns: Columns) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The loss reduction by the drops over B [B, n]; 1 + C lr^-gamma S of each drop [B, n, K]; its power -beta times the drop."""
    c, beta, gamma = (theta[name][..., None] for name in ("C", "beta", "gamma"))
    inner = 1 + c * np.exp(-gamma * columns["log_lrs"]) * columns["ages"]
    kept = columns["drops"] * np.exp(-beta * np.log(inner))
    return columns["drops"].sum(-1) - kept.sum(-1), inner, kept
