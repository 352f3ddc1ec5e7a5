"""Warnings that need more than a fit: a target, published coefficients, or the windows of IsoFLOP parabolas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.fit.diagnostics.finding import Finding, finding
from testbed.analysis.fit.estimate import Estimate
from testbed.analysis.fit.frontier import best_sizes
from testbed.analysis.fit.prediction.predict import Prediction
from testbed.analysis.laws import Law, find_law
from testbed.errors import ConfigError

Array = NDArray[np.float64]

FAR = 1.5  # decades of compute beyond the data
_DIGITS = 4
_MATTERS = 1e-3  # of a prediction, below which rounding does no harm
_LEAST_SIZES = 4  # that make a window
_OFF_CENTRE = 0.25  # of a window's width from its middle, that a minimum may be
_BIAS = 0.05  # decades of N, by which a parabola may be off


def far_target(prediction: Prediction) -> tuple[Finding, ...]:
    """Targets far from the data: more than 1.5 decades of compute beyond them, or of another kind."""
    gap = float(np.max(prediction.gap_decades, initial=0.0))
    outside = int((~np.asarray(prediction.in_hull)).sum())
    reasons = []
    if gap > FAR:
        reasons.append(f"{gap:.1f} decades of compute beyond the largest fitted run")
    if outside:
        many = f"{outside} of {len(prediction.in_hull)} targets lie" if len(prediction.in_hull) > 1 else "it lies"
        reasons.append(f"{many} outside the fitted range of D/N or of another column")
    if not reasons:
        return ()
    evidence = {"gap_decades": gap, "outside": float(outside)}
    return (finding("far-target", evidence, reasons=", and ".join(reasons)),)


def rounded_params(law: Law | str, params: Mapping[str, float | str], at: pd.DataFrame) -> Finding | None:
    """Whether coefficients that someone gives have too few digits: under 4, and that moves the responses at `at`.

    `params` as numbers or, so that 0.340 counts as three digits, as texts; `at` has the law's columns.
    """
    law = find_law(law) if isinstance(law, str) else law
    names = [p.name for p in law.parameters]
    if set(params) != set(names):
        raise ConfigError(f"params: found {', '.join(params) or 'none'}; accepted: {', '.join(names)}, all of them")
    digits = {name: _significant(name, params[name]) for name in names}
    few = {name: count for name, (count, _) in digits.items() if count < _DIGITS}
    columns = law.prepare({name: at[name].to_numpy() for name in law.columns})
    given = {name: np.array([[float(params[name])]]) for name in names}
    exact = law.value(given, columns)
    moved = {}
    for name in few:
        unit = digits[name][1]
        shifted = [law.value(given | {name: given[name] + sign * unit / 2}, columns) for sign in (-1, 1)]
        moved[name] = max(float(np.max(np.abs(value / exact - 1))) for value in shifted)
    total = sum(moved.values())
    if total <= _MATTERS:
        return None
    worst = max(moved, key=lambda name: moved[name])
    return finding(
        "rounded-params",
        {f"digits of {name}": float(count) for name, count in few.items()} | {"relative_error": total},
        given=", ".join(f"{name} = {params[name]}" for name in few),
        response=law.response,
        percent=100 * total,
        worst=worst,
        digits=_DIGITS,
    )


def isoflop_parabola(fit: Estimate, n: ArrayLike, flops: ArrayLike) -> Finding | None:
    """The bias of parabolas in log N (approach 2 of arXiv:2203.15556) at these sizes, if the fitted law were true.

    `n` and `flops` [m] are the sizes and budgets of the runs; those of one budget make a window, of at least
    four. Each parabola is fitted to the law's own loss, without noise, and its minimum compared with the law's.
    """
    windows = pd.DataFrame({"n": np.asarray(n, np.float64), "flops": np.asarray(flops, np.float64)}).drop_duplicates()
    biases, off_centre, without, widest = {}, 0, 0, 0.0
    for _, window in windows.groupby(np.log10(windows["flops"]).round(2)):
        budget, at = float(window["flops"].median()), np.log10(window["n"].to_numpy(np.float64))
        best = math.log10(float(best_sizes(fit, np.array([list(fit.theta.values())]), budget)[0][0]))
        if len(np.unique(at)) < _LEAST_SIZES or math.isnan(best):
            continue
        curve = np.polynomial.Polynomial.fit(at, fit.predict(n=10**at, tokens=budget / (6 * 10**at)), 2).convert().coef
        widest = max(widest, float(np.ptp(at)))
        off_centre += bool(abs(best - (at.min() + at.max()) / 2) > _OFF_CENTRE * np.ptp(at))
        if curve[2] > 0:
            biases[math.log10(budget)] = float(-curve[1] / (2 * curve[2])) - best
        else:
            without += 1
    worst = max(map(abs, biases.values()), default=0.0)
    if worst <= _BIAS and not without:
        return None
    slope = float(np.polyfit(list(biases), list(biases.values()), 1)[0]) if len(biases) > 1 else 0.0
    return finding(
        "isoflop-parabola",
        {"largest_bias_decades": worst, "exponent_bias": slope, "without_minimum": float(without)},
        widest=widest,
        off_centre=off_centre,
        windows=len(biases) + without,
        law=fit.law.name,
        worst=worst,
        slope=slope,
        none=f", and {without} have no minimum" if without else "",
    )


def _significant(name: str, value: float | str) -> tuple[int, float]:
    """Significant digits as written, and one unit of the last of them; whole floats lose the zero that repr adds."""
    text = value if isinstance(value, str) else repr(float(value)).removesuffix(".0")
    try:
        _, digits, exponent = Decimal(text).as_tuple()
    except InvalidOperation:
        raise ConfigError(f"params: {name} is {value!r}; accepted: a number") from None
    if not isinstance(exponent, int):
        raise ConfigError(f"params: {name} is {value!r}; accepted: a finite number")
    return len(digits), 10.0**exponent
