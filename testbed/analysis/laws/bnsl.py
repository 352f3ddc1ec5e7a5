"""Broken neural scaling laws: power laws that turn smoothly into others at one or more places."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Parameter, Theta, amplitude, constant, real, scale


def _parameters(breaks: int) -> tuple[Parameter, ...]:
    places = [scale("d1", (0.03, 10.0), column="tokens")]
    places += [scale(f"gap{i}", (0.3, 200.0)) for i in range(2, breaks + 1)]
    return (
        constant("a"),
        amplitude("b", {"tokens": "c0"}),
        real("c0", (-0.2, 1.2)),
        *(real(f"c{i}", (-1.5, 6.0)) for i in range(1, breaks + 1)),
        *places,
        *(scale(f"f{i}", (0.02, 2.0)) for i in range(1, breaks + 1)),
    )


class BNSL(Law):
    """One break, arXiv:2210.14891, equation 1: y = a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1), x in the column `tokens`.

    Before the break at d1 the slope of log(y - a) is -c0, after it -(c0 + c1); f1 is how wide the turn
    is (0 is a corner). Slopes may have either sign. The authors fit log(1 + y); here residuals are in
    log y. `breaks` in a subclass gives more of them, the i-th at d_i = d_(i-1) (1 + gap_i), so that they
    keep their order.
    """

    name = "bnsl"
    breaks: ClassVar[int] = 1
    parameters = _parameters(1)
    columns = ("tokens",)
    formula = r"y = a + b x^{-c_0} (1 + (x/d_1)^{1/f_1})^{-c_1 f_1}"
    source = "arXiv:2210.14891, eq. 1"

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """The response [B, n], in the table's unit."""
        x = np.log(columns["tokens"])
        fall = theta["c0"] * x
        for i, place in enumerate(self._places(theta), start=1):
            width = theta[f"f{i}"]
            fall = fall + theta[f"c{i}"] * width * _softplus((x - place) / width)
        return np.asarray(theta["a"] + theta["b"] * np.exp(-fall))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        x = np.log(columns["tokens"])
        fall, turns = theta["c0"] * x, []
        for i, place in enumerate(self._places(theta), start=1):
            turn, width = theta[f"c{i}"], theta[f"f{i}"]
            z = (x - place) / width
            tail = np.exp(-np.abs(z))
            log_tail = np.log1p(tail)
            bend = np.where(z > 0, z, 0.0) + log_tail  # _softplus(z)
            fall = fall + turn * width * bend
            turns.append((turn, width, z, tail, log_tail, bend))
        falling = theta["b"] * np.exp(-fall)
        slopes = {"a": np.ones_like(falling), "b": falling / theta["b"], "c0": -falling * x}
        by_place = []
        for i, (turn, width, z, tail, log_tail, bend) in enumerate(turns, start=1):
            slopes[f"c{i}"] = -falling * width * bend
            slopes[f"f{i}"] = -falling * turn * (log_tail + np.abs(z) * tail / (1 + tail))
            by_place.append(falling * turn * np.where(z > 0, 1.0, tail) / (1 + tail))
        slopes["d1"] = sum(by_place) / theta["d1"]
        for i in range(2, self.breaks + 1):  # a gap moves its own break and all beyond it
            slopes[f"gap{i}"] = sum(by_place[i - 1 :]) / (1 + theta[f"gap{i}"])
        return slopes

    def _places(self, theta: Theta) -> list[Any]:
        """The logarithms of the breaks d1, d2 ..., each [B, 1]."""
        places = [np.log(theta["d1"])]
        for i in range(2, self.breaks + 1):
            places.append(places[-1] + np.log1p(theta[f"gap{i}"]))
        return places


class BNSL2(BNSL):
    """Two breaks, arXiv:2210.14891, equation 1: the second at d2 = d1 (1 + gap2).

    Where a curve turns only once, the second break ends as a corner between two points (f near 0) or
    cancels the first, and the fit does not converge.
    """

    name = "bnsl2"
    breaks = 2
    parameters = _parameters(2)
    formula = r"y = a + b x^{-c_0} (1 + (x/d_1)^{1/f_1})^{-c_1 f_1} (1 + (x/d_2)^{1/f_2})^{-c_2 f_2}"


def _softplus(z: Any) -> Any:
    """log(1 + e^z) without overflow."""
    above = np.real(z) > 0
    return np.where(above, z, 0.0) + np.log1p(np.exp(np.where(above, -z, z)))
