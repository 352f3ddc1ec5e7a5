"""Farseer's L(N, D): the data term's size and exponent, and the floor, all change with N."""

from __future__ import annotations

from collections.abc import Mapping
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Theta, amplitude, constant, exponent, real

_N = 1e9  # parameters, and
_LOG_D = float(np.log(1e10))  # tokens, at which the coefficients are stated
_SMALL = 5e-3  # powers below this have their series, which ends far below rounding
_SERIES = range(1, 9)


class Farseer(Law):
    """Nine parameters, arXiv:2506.10972: L = e^(a3 N^gamma + b3) + e^(a2 N^beta + b2) D^(-e^(a1 N^alpha + b1)).

    The paper's coefficients trade off without limit as its exponents near 0, so the same surface is stated
    by what can be seen of it at N = 1e9 and D = 1e10: the floor E, the data term B D^-c, and their slopes
    d log E / d log N = e, d log(B D^-c) / d log N = b, d log c / d log N = s; alpha, beta, gamma are the
    paper's. `published` and `stated` turn one set of parameters into the other. N without embeddings, D in
    tokens: counted in another unit, D gives another surface. The paper's losses are in bits a character.
    """

    name = "farseer"
    parameters = (
        constant("E"),
        amplitude("B", {"tokens": "c"}),
        exponent("c", (0.1, 1.2)),
        real("e", (-0.3, 0.05)),
        real("b", (-0.6, 0.3)),
        real("s", (-0.3, 0.3)),
        real("alpha", (-0.6, 0.6)),
        real("beta", (-0.6, 0.6)),
        real("gamma", (-0.6, 0.6)),
    )
    columns = ("n", "tokens")
    formula = r"L = e^{a_3 N^{\gamma} + b_3} + e^{a_2 N^{\beta} + b_2} D^{-e^{a_1 N^{\alpha} + b_1}}"
    source = "arXiv:2506.10972, the nine-parameter L(N, D)"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """`x` = log(N / 1e9) and the tokens with their logarithm."""
        n, tokens = (np.asarray(columns[name], np.float64) for name in self.columns)
        return {"x": np.log(n / _N), "tokens": tokens, "log_tokens": np.log(tokens)}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        x = columns["x"]
        floor = theta["E"] * np.exp(theta["e"] * _bent(x, theta["gamma"]))
        power = theta["c"] * np.exp(theta["s"] * _bent(x, theta["alpha"]))
        log_data = _data_slope(theta) * _bent(x, theta["beta"]) - power * columns["log_tokens"]
        return np.asarray(floor + theta["B"] * np.exp(log_data))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        x, log_tokens, slope = columns["x"], columns["log_tokens"], _data_slope(theta)
        along = {name: _bent(x, theta[name]) for name in ("alpha", "beta", "gamma")}
        bend = {name: _bend(x, theta[name], along[name]) for name in along}
        floor = np.exp(theta["e"] * along["gamma"])
        power = theta["c"] * np.exp(theta["s"] * along["alpha"])
        data = np.exp(slope * along["beta"] - power * log_tokens)
        by_log = theta["B"] * data
        by_slope, by_power = by_log * along["beta"], -by_log * power * log_tokens
        return {
            "E": floor,
            "B": data,
            "c": by_power / theta["c"] + by_slope * theta["s"] * _LOG_D,
            "e": theta["E"] * floor * along["gamma"],
            "b": by_slope,
            "s": by_power * along["alpha"] + by_slope * theta["c"] * _LOG_D,
            "alpha": by_power * theta["s"] * bend["alpha"],
            "beta": by_log * slope * bend["beta"],
            "gamma": theta["E"] * floor * theta["e"] * bend["gamma"],
        }

    @staticmethod
    def published(params: Mapping[str, float]) -> dict[str, float]:
        """The paper's a1, b1 ... gamma of these parameters; infinite where an exponent is 0."""
        p = {name: float(value) for name, value in params.items()}
        slope, logs = _data_slope(p), {name: float(np.log(p[name])) for name in ("E", "B", "c")}
        a1, a2, a3 = p["s"] / p["alpha"], slope / p["beta"], p["e"] / p["gamma"]
        return {
            "a1": a1 * _N ** -p["alpha"],
            "b1": logs["c"] - a1,
            "alpha": p["alpha"],
            "a2": a2 * _N ** -p["beta"],
            "b2": logs["B"] - a2,
            "beta": p["beta"],
            "a3": a3 * _N ** -p["gamma"],
            "b3": logs["E"] - a3,
            "gamma": p["gamma"],
        }

    @staticmethod
    def stated(published: Mapping[str, float]) -> dict[str, float]:
        """These parameters, from the paper's a1, b1, alpha, a2, b2, beta, a3, b3, gamma."""
        p = published
        a1, a2, a3 = (p[a] * _N ** p[power] for a, power in (("a1", "alpha"), ("a2", "beta"), ("a3", "gamma")))
        c, s = float(np.exp(a1 + p["b1"])), a1 * p["alpha"]
        return {
            "E": float(np.exp(a3 + p["b3"])),
            "B": float(np.exp(a2 + p["b2"])),
            "c": c,
            "e": a3 * p["gamma"],
            "b": a2 * p["beta"] - c * s * _LOG_D,
            "s": s,
            "alpha": p["alpha"],
            "beta": p["beta"],
            "gamma": p["gamma"],
        }


def _data_slope(theta: Mapping[str, Any]) -> Any:
    """Slope of log B(N) along log N at N = 1e9: at D = 1e10 the change of the exponent adds to it."""
    return theta["b"] + theta["c"] * theta["s"] * _LOG_D


def _bent(x: NDArray[np.float64], power: Any) -> NDArray[Any]:
    """(e^(power x) - 1) / power [B, n]: x itself where the power is 0."""
    near, apart = _near_zero(power)
    bent: NDArray[Any] = (np.exp(power * x) - 1) / apart
    if near.any():
        bent[near] = sum(power[near] ** (k - 1) * x**k / factorial(k) for k in _SERIES)
    return bent


def _bend(x: NDArray[np.float64], power: Any, bent: NDArray[Any]) -> NDArray[Any]:
    """Derivative of `bent` = _bent(x, power) by the power [B, n]."""
    near, apart = _near_zero(power)
    bend: NDArray[Any] = (x * (1 + power * bent) - bent) / apart
    if near.any():
        bend[near] = sum((k - 1) * power[near] ** (k - 2) * x**k / factorial(k) for k in _SERIES[1:])
    return bend


def _near_zero(power: Any) -> tuple[NDArray[np.bool_], Any]:
    """Rows [B] whose power is so small that the difference above loses digits, and the powers without these."""
    near = np.abs(np.real(power)) < _SMALL
    return near[:, 0], np.where(near, 1.0, power)
