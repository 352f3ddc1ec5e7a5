"""Warnings about single rows far from the law: named by their row in the file, in tables of any size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from testbed.analysis.fit.diagnostics.finding import Finding, finding
from testbed.analysis.fit.estimate import Estimate, robust_sd
from testbed.analysis.fit.settings import as_expression, is_tuned
from testbed.points.numbers import row_number

_TIMES = 10.0  # robust standard deviations of the residuals,
_LEAST = 0.05  # and this share of the response, that a row has to lie off the law
_MOST = 0.15  # of the rows; more are no outliers
_SPARE = 4  # rows more than parameters, below which a law goes through most of its rows
_SHOWN = 5


def far_rows(fit: Estimate, raw: pd.DataFrame | None) -> Iterator[Finding]:
    """Rows that lie far off the law, the farthest first named by their numbers."""
    if fit.nobs != len(fit.points) or fit.nobs < len(fit.problem.coordinates.free) + _SPARE:
        return
    if any(is_tuned(name) for name in fit.differs):
        return  # a sweep's bad settings, of which the best of each design gets rid
    off = np.expm1(fit.resid) if fit.space == "log" else fit.resid
    unit = 1.0 if fit.space == "log" else float(np.ptp(fit.rows.y)) or 1.0
    far = (np.abs(fit.resid) > _TIMES * robust_sd(fit.resid)) & (np.abs(off) > _LEAST * unit)
    count = int(far.sum())
    if not 0 < count <= max(1, _MOST * fit.nobs):
        return
    worst = np.sort(np.flatnonzero(far)[np.argsort(-np.abs(off[far]), kind="stable")][:_SHOWN])
    numbers = [row_number(fit.points if raw is None else raw, int(k)) for k in worst]
    sizes = [f"{100 * abs(off[k]):.0f} %" if fit.space == "log" else f"{abs(off[k]):.3g}" for k in worst]
    sides = {bool(off[k] > 0) for k in worst}
    side = "above or below" if len(sides) == 2 else "above" if sides == {True} else "below"
    more = f" (and {count - len(worst)} more rows as far)" if count > len(worst) else ""
    evidence: dict[str, float | str] = {"rows": float(count)}
    evidence |= {f"row {number}": float(off[k]) for number, k in zip(numbers, worst, strict=True)}
    plural = len(worst) > 1
    yield finding(
        "far-rows",
        evidence,
        which=f"{'Rows' if plural else 'Row'} {_listed([str(number) for number in numbers])} "
        f"{'lie' if plural else 'lies'} {_listed(sizes)} {side}",
        law=fit.law.name,
        more=more,
        remedy=_remedy(fit, far),
    )


def _remedy(fit: Estimate, far: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    """How to leave the rows out: by their response where that tells them apart."""
    response = fit.points[fit.law.response].to_numpy(np.float64)
    column = fit.columns.get(fit.law.response, fit.law.response)
    inside, outside = response[~far], response[far]
    source = as_expression(column)
    for sign, gap in (("<", (inside.max(), outside.min())), (">", (outside.max(), inside.min()))):
        if gap[0] < gap[1]:
            middle = float(f"{gap[0] + (gap[1] - gap[0]) / 2:.3g}")
            if gap[0] < middle < gap[1]:
                return f'leave them out with --where "{source} {sign} {middle:g}"'
    return "look at their logs, and drop them from the table or leave them out with --where"


def _listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
