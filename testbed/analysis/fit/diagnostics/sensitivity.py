"""Whether the exponents depend on a few rows, on the width of the loss, or on which runs were chosen.

A move counts from one standard error on. Where many rows are left out, or none, it has to be more than
chance as well: leaving out a quarter of the rows moves every estimate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.fit.diagnostics.finding import Finding, finding
from testbed.analysis.fit.diagnostics.refits import Refits, Variant
from testbed.analysis.fit.estimate import robust_sd
from testbed.analysis.fit.settings import as_expression
from testbed.points.expressions import quoted

Array = NDArray[np.float64]

_SHARE = 0.02  # of the rows, left out as outliers
_LEAST_ROWS = 50  # of which that is a row; of fewer, the one run that moves most is left out
_ERRORS = 1.0  # standard errors that a move has to exceed
_BY_WIDTH, _BY_ROWS = 2.0, 3.0  # and how many times what chance allows: tuned so that few clean tables are accused
_UNDER_TRAINED = 10.0  # tokens per parameter

_LARGEST, _HIGHEST = "without the largest residuals", "without the highest losses"
_FEWEST, _SMALLEST = "without the quarter of least D/N", "without the quarter of least compute"
_UNDER = f"without D/N below {_UNDER_TRAINED:g}"
_ONE = "without one run"


def sensitivities(refits: Refits) -> Iterator[Finding]:
    """Rows, loss widths and selections that move a watched parameter by more than one standard error."""
    if not refits.watched:
        return
    few = math.ceil(_SHARE * len(refits.y)) if len(refits.y) >= _LEAST_ROWS else 0
    run, rows_of_run = _most_influential(refits)
    left_out = {
        _LARGEST: _largest(np.abs(refits.residuals), few),
        _HIGHEST: _largest(refits.y, few),
        _ONE: rows_of_run,
        **_selections(refits),
    }
    variants = {variant.name: variant for variant in refits.without(left_out)}
    named = refits.fit.law.response
    yield from _outliers(refits, [variants[name] for name in (_LARGEST, _HIGHEST) if name in variants], few, named)
    yield from _widths(refits)
    yield from _selection(refits, [variants[name] for name in (_FEWEST, _SMALLEST) if name in variants])
    if _UNDER in left_out:
        yield from _under_trained(refits, variants.get(_UNDER), int(left_out[_UNDER].sum()))
    if _ONE in variants:
        yield from _one_run(refits, variants[_ONE], run)


def _outliers(refits: Refits, variants: list[Variant], few: int, response: str) -> Iterator[Finding]:
    worst = _worst(variants)
    if worst is None or worst.worst.errors <= _ERRORS:
        return
    which = f"the {few} rows of " + ("largest residuals" if worst.name == _LARGEST else f"highest {response}")
    evidence = _evidence(refits, variants) | {"rows_left_out": float(few)}
    yield finding(
        "outlier-sensitivity", evidence, rows=which, share=100 * _SHARE, moved=_moved(worst), seen=_seen(refits)
    )


def _widths(refits: Refits) -> Iterator[Finding]:
    fit = refits.fit
    if fit.loss == "ls":
        robust = 1.345 * robust_sd(refits.residuals)  # Huber's 95 % efficiency for normal errors
        widths = {"huber": robust} if robust > 0 else {}
    else:
        narrow = {f"delta {fit.delta / 10:g}": fit.delta / 10} if fit.loss == "huber" else {}
        widths = narrow | {f"delta {10 * fit.delta:g}": 10 * fit.delta, "least squares": np.inf}
    variants = refits.with_widths(widths) if widths else []
    worst = _worst([variant for variant in variants if _beyond_chance(variant, _BY_WIDTH)])
    if worst is None:
        return
    evidence = _evidence(refits, variants)
    yield finding(
        "delta-sensitivity", evidence, other=worst.name, own=_loss_name(refits), moved=_moved(worst), seen=_seen(refits)
    )


def _selection(refits: Refits, variants: list[Variant]) -> Iterator[Finding]:
    worst = _worst([variant for variant in variants if _beyond_chance(variant, _BY_ROWS)])
    if worst is None:
        return
    rows = f"{worst.name[0].upper()}{worst.name[1:]}"
    chances = worst.worst.chances
    evidence = _evidence(refits, variants)
    yield finding(
        "selection-sensitivity", evidence, rows=rows, moved=_moved(worst), chances=chances, seen=_seen(refits)
    )


def _under_trained(refits: Refits, variant: Variant | None, count: int) -> Iterator[Finding]:
    shown: dict[str, Any] = {"count": count, "whole": len(refits.y), "least": _UNDER_TRAINED}
    evidence: dict[str, float | str] = {"rows_under_trained": float(count), "rows": float(len(refits.y))}
    if variant is None:
        if 2 * count > len(refits.y):
            yield finding("under-trained", evidence, "most", **shown)
    elif _beyond_chance(variant, _BY_ROWS):
        evidence |= _evidence(refits, [variant])
        shown |= {"moved": _moved(variant), "chances": variant.worst.chances, "seen": _seen(refits)}
        tokens, n = (as_expression(refits.fit.columns.get(name, name)) for name in ("tokens", "n"))
        shown |= {"keep": f"{tokens} >= {_UNDER_TRAINED:g} * {n}"}
        yield finding("under-trained", evidence, **shown)


def _one_run(refits: Refits, variant: Variant, run: str) -> Iterator[Finding]:
    if variant.worst.errors > _ERRORS:
        evidence = {"run": run, **_evidence(refits, [variant])}
        column = refits.fit.columns.get("run")
        which = f"run {run}" if column else f"row {int(run) + 1} of those fitted"
        keep = f"--where \"{quoted(column)} != '{run}'\"" if column else "--where EXPR"
        yield finding("influential-run", evidence, which=which, moved=_moved(variant), seen=_seen(refits), keep=keep)


def _selections(refits: Refits) -> dict[str, NDArray[np.bool_]]:
    """Name -> the rows of a quarter of the fit, by D/N and by compute."""
    chosen = {}
    domain = refits.domain
    if domain.ratio is not None:
        ratio = domain.ratio[refits.rows]
        chosen[_FEWEST] = ratio < np.quantile(ratio, 0.25)
        under = ratio < math.log10(_UNDER_TRAINED)
        if under.any():
            chosen[_UNDER] = under
    if domain.compute is not None:
        compute = domain.compute[refits.rows]
        chosen[_SMALLEST] = compute < np.quantile(compute, 0.25)
    return chosen


def _most_influential(refits: Refits) -> tuple[str, NDArray[np.bool_]]:
    """The run that moves a watched parameter by most standard errors, to first order, and its rows."""
    with np.errstate(over="ignore"):  # errors of 0
        moves = np.abs(refits.influence)[:, refits.watched] / np.maximum(
            refits.coordinate_errors[refits.watched], 1e-300
        )
    number = int(np.argmax(moves.max(axis=1)))
    rows = refits.members[:, [number]].toarray()[:, 0] > 0
    return refits.fit.rows.names[refits.runs[number]], rows


def _largest(values: Array, count: int) -> NDArray[np.bool_]:
    """Which are the `count` largest [rows]."""
    chosen = np.zeros(len(values), bool)
    chosen[np.argsort(-values, kind="stable")[:count]] = True
    return chosen


def _worst(variants: Iterable[Variant]) -> Variant | None:
    return max(variants, key=lambda variant: variant.worst.errors, default=None)


def _beyond_chance(variant: Variant, times: float) -> bool:
    return any(move.errors > _ERRORS and move.chances > times for move in variant.moves)


def _moved(variant: Variant) -> str:
    move = variant.worst
    return f"{move.parameter} goes from {move.before:.3g} to {move.after:.3g} ({move.errors:.1f} standard errors)"


def _loss_name(refits: Refits) -> str:
    fit = refits.fit
    return {
        "ls": "least squares",
        "huber": f"delta {fit.delta:g}",
        "lad": "absolute deviations",
        "huber-likelihood": "Huber's likelihood",
    }[fit.loss]


def _seen(refits: Refits) -> str:
    whole = refits.fit.nobs
    return "" if len(refits.y) == whole else f" (seen on {len(refits.y)} of the {whole} rows)"


def _evidence(refits: Refits, variants: Iterable[Variant]) -> dict[str, float | str]:
    """The parameters of the fit and of each variant, and the moves in standard errors."""
    evidence: dict[str, float | str] = dict(refits.fit.theta)
    for variant in variants:
        evidence |= {f"{name}, {variant.name}": value for name, value in variant.params.items()}
        evidence |= {f"{move.parameter} moves, {variant.name}": move.errors for move in variant.moves}
    return evidence
