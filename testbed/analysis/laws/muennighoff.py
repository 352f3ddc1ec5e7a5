"""L(N, D, U) where data is repeated: tokens beyond U unique ones, and parameters beyond what U can use, count less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, amplitude, constant, exponent, scale


class Muennighoff(Law):
    """The data-constrained law of Muennighoff et al., arXiv:2305.16264, section 3 and appendix A.

    N parameters, D tokens seen, U distinct ones among them (all where D is less), L in nats/token.
    Repeats R_D = D/U - 1 are worth at most R_D* more passes; parameters beyond U_N = min(N, N_opt(U)),
    R_N = N/U_N - 1, at most R_N* more U_N. N_opt(U) is the size for which U tokens are compute-optimal.
    R_D and R_N name the parameters R_D* and R_N*; where no run repeats its data they are not identified.
    """

    name = "muennighoff"
    parameters = (
        amplitude("A", {"n": "alpha"}, linear=False),  # not linear: N_opt moves with A and B
        amplitude("B", {"tokens": "beta"}, linear=False),
        constant("E"),
        exponent("alpha"),
        exponent("beta"),
        scale("R_D", (0.3, 300.0)),
        scale("R_N", (0.3, 300.0)),
    )
    columns = ("n", "tokens", "unique_tokens")
    formula = (
        r"L = E + \frac{A}{(U_N + U_N R_N^* (1 - e^{-R_N/R_N^*}))^{\alpha}}"
        r" + \frac{B}{(U + U R_D^* (1 - e^{-R_D/R_D^*}))^{\beta}}"
    )
    source = "arXiv:2305.16264, sec. 3 and app. A"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """N, D, the distinct tokens among D, and the repeats R_D."""
        n, tokens, unique = (np.asarray(columns[name], np.float64) for name in self.columns)
        unique = np.minimum(unique, tokens)
        return {"n": n, "tokens": tokens, "unique_tokens": unique, "repeats": tokens / unique - 1}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        size, data, used = _terms(theta, columns)
        excess = (used / size) ** (1 / theta["alpha"]) - 1
        size = used * _worth(excess, theta["R_N"]) ** -theta["alpha"]
        data = data * _worth(columns["repeats"], theta["R_D"]) ** -theta["beta"]
        return np.asarray(theta["E"] + size + data)

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        alpha, beta, repeats = theta["alpha"], theta["beta"], columns["repeats"]
        log_n, log_unique = np.log(columns["n"]), np.log(columns["unique_tokens"])
        size, data, used = _terms(theta, columns)
        ratio = np.log(used / size)
        passes = np.exp(np.minimum(ratio / alpha, 300.0))
        worth, worth_d = _worth(passes - 1, theta["R_N"]), _worth(repeats, theta["R_D"])
        term, term_d = used * worth**-alpha, data * worth_d**-beta
        # By log used at a fixed ratio, by log ratio at a fixed log used; the latter is 0 where nothing is in excess.
        by_ratio = -term * passes * np.exp(-(passes - 1) / theta["R_N"]) / worth
        beyond = ratio > 0
        by_size = np.where(beyond, -by_ratio, term)
        by_data = np.where(beyond, term + by_ratio, 0.0)
        return {
            "A": by_size / theta["A"],
            "B": (by_data + term_d) / theta["B"],
            "E": np.ones_like(term),
            "alpha": -by_size * log_n - by_data / alpha - by_ratio * ratio / alpha - term * np.log(worth),
            "beta": -by_data * (log_unique - 1 / beta) - term_d * (log_unique + np.log(worth_d)),
            "R_D": -beta * term_d / worth_d * _worth_slope(repeats, theta["R_D"]),
            "R_N": -alpha * term / worth * _worth_slope(passes - 1, theta["R_N"]),
        }


def _terms(theta: Theta, columns: Columns) -> tuple[Any, Any, Any]:
    """A / N^alpha, B / U^beta and A / U_N^alpha, each [B, n]."""
    size = theta["A"] * columns["n"] ** -theta["alpha"]
    data = theta["B"] * columns["unique_tokens"] ** -theta["beta"]
    # At the compute-optimal size alpha A / N^alpha = beta B / U^beta; a larger one uses only that much of itself.
    least = data * theta["beta"] / theta["alpha"]
    return size, data, np.where(np.real(size) < np.real(least), least, size)


def _worth(repeats: Any, most: Any) -> Any:
    """Effective passes of 1 + repeats passes: each repeat adds less than the last, together at most `most`."""
    return 1 - most * np.expm1(-repeats / most)


def _worth_slope(repeats: Any, most: Any) -> Any:
    """Derivative of `_worth` by `most`."""
    return -np.expm1(-repeats / most) - repeats / most * np.exp(-repeats / most)
