"""L = L0 + A / S1^alpha - C S2: a whole loss curve from its learning-rate schedule, of one model or of several sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.polynomial.chebyshev import chebder, chebvander
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Parameter, Theta, amplitude, constant, exponent, fraction, scale
from testbed.analysis.laws.lr_schedules import Changes, schedules
from testbed.errors import TableError

Array = NDArray[np.float64]

_LOGITS = (0.0, 14.0)  # of lambda: a momentum that lasts from two steps to a million
_DEGREE = 120  # of the polynomial in the logit of lambda that stands for the annealing area


class Tissue(Law):
    """The law of learning-rate annealing of Tissue et al., arXiv:2408.11029, equation 1.

    S1 is the LR summed over the steps so far, warm-up included (the column lr_sum). S2 is the annealing
    area: the sum over steps of a momentum that decays by the factor lambda a step and gains each drop of
    the LR; a later rise counts against it, but warm-up, the rise to the first peak, is no annealing and
    does not count, as in the authors' code. (That code also takes warm-up for steps at the peak in S1,
    which fits curves with a warm-up of thousands of steps worse.) The changes between logged rows are
    placed by lr_sum, so the rows of a run must cover its schedule. L in nats/token.

    lambda is fitted; fixed={"lambda": 0.999} holds it at the paper's choice, made for runs of 20,000 steps
    and more: 1 / (1 - lambda) is the number of steps that a drop goes on to act for, so a run of a few
    thousand steps needs a smaller one. L0 is not the irreducible loss: curves of one model leave it free
    to trade with alpha and lambda, by several percent, at equal errors.
    """

    name = "tissue"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        constant("L0"),
        amplitude("A", {"lr_sum": "alpha"}),
        scale("C", (0.01, 100.0), linear=True),
        exponent("alpha", (0.05, 1.5)),
        fraction("lambda", (0.95, 0.9998)),
    )
    columns: ClassVar[tuple[str, ...]] = ("run", "step", "lr_at_step", "lr_sum")
    formula = r"L = L_0 + \frac{A}{S_1^{\alpha}} - C S_2(\lambda)"
    source = "arXiv:2408.11029, eq. 1"
    positive = False

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
        """S1 as lr_sum [n]; `annealed` [n, 121], (1 - lambda) S2 as a Chebyshev series in the logit of lambda; its derivative."""
        step, lr = (np.asarray(columns[name], np.float64) for name in ("step", "lr_at_step"))
        angles = np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1)
        logits = _LOGITS[0] + (_LOGITS[1] - _LOGITS[0]) * (np.cos(angles) + 1) / 2
        at_nodes = np.empty((len(step), _DEGREE + 1))
        for rows, changes in schedules(columns):
            warm = step[rows][_first_peak(lr[rows])]
            at_nodes[rows] = _annealed(step[rows], changes, warm, -np.log1p(np.exp(-logits)))
        series = at_nodes @ np.cos(np.outer(angles, np.arange(_DEGREE + 1))) * (2 / (_DEGREE + 1))
        series[:, 0] /= 2
        lr_sum = np.asarray(columns["lr_sum"], np.float64)
        return {"lr_sum": lr_sum, "annealed": series, "annealed_slope": chebder(series, axis=1)}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        terms = sum(theta[a] * power for a, _, _, power in self._terms(theta, columns))
        return np.asarray(theta["L0"] + terms - theta["C"] * _area(theta["lambda"], columns["annealed"]))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        area = _area(theta["lambda"], columns["annealed"])
        by_decay = _slope(theta["lambda"], area, columns["annealed_slope"])
        slopes = {"L0": np.ones_like(area), "C": -area, "lambda": -theta["C"] * by_decay}
        for a, alpha, column, power in self._terms(theta, columns):
            slopes[a] = power
            slopes[alpha] = -theta[a] * power * np.log(columns[column])
        return slopes

    def _terms(self, theta: Theta, columns: Columns) -> list[tuple[str, str, str, NDArray[Any]]]:
        """The terms that fall as powers: factor, exponent, column, and the column to that exponent [B, n]."""
        falls = [(p.name, str(alpha), column) for p in self.parameters for column, alpha in p.falls.items()]
        return [(a, alpha, column, columns[column] ** -theta[alpha]) for a, alpha, column in falls]


class TissueN(Tissue):
    """The annealing law across model sizes, Tissue et al., arXiv:2408.11029: `tissue` with a term for N.

    Curves of models of N parameters, all with one A, alpha, C and lambda.
    """

    name = "tissue_n"
    parameters = (
        *Tissue.parameters[:2],
        amplitude("B", {"n": "beta"}),
        *Tissue.parameters[2:4],
        exponent("beta", (0.05, 1.0)),
        Tissue.parameters[4],
    )
    columns = (*Tissue.columns, "n")
    formula = r"L = L_0 + \frac{A}{S_1^{\alpha}} + \frac{B}{N^{\beta}} - C S_2(\lambda)"
    source = "arXiv:2408.11029, the law with model size"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
        """As `tissue`, with N as n [n]; TableError where it is not above 0."""
        n = np.asarray(columns["n"], np.float64)
        if n.min() <= 0:
            raise TableError(f"column n: found {n.min():g}, expected parameters above 0; drop or correct such rows")
        return super().prepare(columns) | {"n": n}


def _first_peak(lr: Array) -> int:
    """The row in which the LR stops to rise."""
    rises = np.append(np.diff(lr) > 1e-9 * lr.max(), False)
    return int(np.argmin(rises))


def _annealed(step: Array, changes: Changes, since: float, log_decay: Array) -> Array:
    """(1 - lambda) S2 [rows, k] of one run for logarithms of lambda [k], of the changes after the step `since`."""
    later = changes.step > since
    begin, drop = changes.step[later] - 1, changes.drop[later]
    reached = np.searchsorted(begin, step, side="right")
    result = np.empty((len(step), len(log_decay)))
    left, at, done = np.zeros_like(log_decay), 0.0, 0  # of the momentum, at which step, after how many changes
    for row, (now, upto) in enumerate(zip(step, reached, strict=True)):
        new = slice(done, upto)
        left = left * np.exp((now - at) * log_decay) + drop[new] @ np.exp(np.outer(now - begin[new], log_decay))
        at, done = now, upto
        result[row] = drop[:upto].sum() - left
    return result


def _area(decay: NDArray[Any], series: Array) -> NDArray[Any]:
    """S2 [B, n] for lambda [B, 1] and the series of `prepare` [n, 121]."""
    return np.asarray(chebvander(_place(decay)[:, 0], _DEGREE) @ series.T / (1 - decay))


def _slope(decay: Array, area: Array, series: Array) -> Array:
    """The derivative of S2 [B, n], which is `area`, by lambda [B, 1], for the derivative of the series [n, 120]."""
    place, (low, high) = _place(decay), _LOGITS
    by_place = chebvander(place[:, 0], _DEGREE - 1) @ series.T
    by_decay = by_place * (np.abs(place) < 1) * 2 / (high - low) / (decay * (1 - decay))
    return np.asarray((by_decay + area) / (1 - decay))


def _place(decay: NDArray[Any]) -> NDArray[Any]:
    """Where lambda stands in the range of its logit, from -1 to 1 and no farther."""
    low, high = _LOGITS
    place = (2 * np.log(decay / (1 - decay)) - low - high) / (high - low)
    return np.asarray(np.where(np.abs(place.real) < 1, place, np.sign(place.real)))
