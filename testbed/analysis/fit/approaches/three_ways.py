"""The three approaches to the compute-optimal model of arXiv:2203.15556, section 3, on one table, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from testbed.analysis.fit.approaches.allocation import Allocation, approach_1, approach_2
from testbed.analysis.fit.diagnostics import Finding, carried
from testbed.analysis.fit.diagnostics.ladder import refuse_ladder
from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.frontier import best_sizes
from testbed.analysis.fit.intervals import resamples_hold
from testbed.analysis.fit.result import Fit
from testbed.analysis.laws import Law
from testbed.errors import TestbedError
from testbed.points import fit_columns, map_columns
from testbed.points.expressions import quoted

_SAME = 1.02  # times 6 N D, up to which a count of FLOPs is taken for it


@dataclass(frozen=True, eq=False)
class ThreeWays:
    """`table` has a row an approach: the exponents a of N* ~ C^a and b of D* ~ C^b with intervals, and N*, D* at `flops`.

    `refused` has the approaches that the table does not allow, with the reason; `warnings` are the doubts about the
    fitted law. FLOPs are 6 N D in all three; `notes` say so where the table has another count.
    """

    flops: float
    table: pd.DataFrame
    refused: dict[str, str]
    warnings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def side_by_side(
    data: pd.DataFrame | Mapping[str, Any],
    *,
    law: Law | str = "hoffmann",
    budgets: Sequence[float] | None = None,
    columns: Mapping[str, str] | None = None,
    level: float = 0.9,
    n_boot: int = 1000,
    seed: int = 0,
    where: str = "the table",
) -> ThreeWays:
    """Approaches 1, 2 (at `budgets` FLOPs, found in the table if None) and 3 (by `law`, of n and tokens).

    N* and D* are given at the largest compute of the table; an approach that the table does not allow is refused.

    Raises:
        TableError: The law cannot be fitted to the table (see `fit_law`).
        ConfigError: The law is unknown or not of n and tokens, or an argument is out of its range.
    """
    fit = fit_law(law, data, columns=columns, n_boot=n_boot, seed=seed, where=where)
    flops = float((6 * fit.points["n"] * fit.points["tokens"]).max())
    table = data if isinstance(data, pd.DataFrame) else pd.DataFrame(dict(data))
    by_6nd = {**(columns or {}), "flops": f"6 * {_source(fit, 'n', table)} * {_source(fit, 'tokens', table)}"}
    makers: dict[str, Callable[[], Allocation]] = {
        "1, envelope": lambda: approach_1(data, columns=by_6nd, n_boot=min(n_boot, 400), seed=seed, where=where),
        "2, IsoFLOP": lambda: approach_2(
            data, budgets=budgets, by_6nd=True, columns=columns, n_boot=n_boot, seed=seed, where=where
        ),
    }
    rows, refused = [], {}
    for name, maker in makers.items():
        try:
            rows.append({"approach": name, **_lines(maker(), flops, level)})
        except TestbedError as error:
            refused[name] = str(error)
    try:
        refuse_ladder(fit, "approach 3")
        rows.append({"approach": f"3, {fit.law.name}", **_fitted(fit, flops, level)})
    except TestbedError as error:
        refused[f"3, {fit.law.name}"] = str(error)
    return ThreeWays(flops, pd.DataFrame(rows), refused, carried(fit), _notes(data, columns, fit, where))


def _notes(
    data: pd.DataFrame | Mapping[str, Any], columns: Mapping[str, str] | None, fit: Fit, where: str
) -> tuple[str, ...]:
    """That FLOPs are 6 N D, where the table's own are more or fewer."""
    table = data if isinstance(data, pd.DataFrame) else pd.DataFrame(dict(data))
    mapping = map_columns(table, ("n", "tokens", "flops"), columns or {}, where)
    if mapping["flops"] not in table.columns:
        return ()
    ratio = (
        fit_columns(table, mapping, where)["flops"].to_numpy() / (6 * fit.points["n"] * fit.points["tokens"]).to_numpy()
    )
    low, high = float(ratio.min()), float(ratio.max())
    if max(high, 1 / low) < _SAME:
        return ()
    times = f"{low:.3g}" if high < _SAME * low else f"{low:.3g} to {high:.3g}"
    return (f"FLOPs are 6 N D in all three approaches, so that a + b = 1; {mapping['flops']} is {times} times that",)


def _source(fit: Fit, name: str, table: pd.DataFrame) -> str:
    """The column of the table, or the expression over its columns, that gave n or tokens."""
    source = fit.columns[name]
    return quoted(source) if source in table.columns else f"({source})"


def _lines(found: Allocation, flops: float, level: float) -> dict[str, Any]:
    row: dict[str, Any] = {"optima": len(found.optima)}
    for letter, line in (("a", found.n), ("b", found.tokens)):
        low, high = line.interval(level)
        row |= {letter: line.exponent, f"{letter}_low": low, f"{letter}_high": high}
    return row | {"n": float(found.n.at(flops)["value"][0]), "tokens": float(found.tokens.at(flops)["value"][0])}


def _fitted(fit: Fit, flops: float, level: float) -> dict[str, Any]:
    """The frontier's slope over the last decade of the table's compute."""
    thetas = np.concatenate([np.array([list(fit.theta.values())]), fit.resamples])
    upper, lower = best_sizes(fit, thetas, flops), best_sizes(fit, thetas, flops / 10)
    row: dict[str, Any] = {"optima": None}
    for k, letter in enumerate("ab"):
        slope = np.log10(upper[k] / lower[k])
        centre, drawn = slope[0], slope[1:][np.isfinite(slope[1:])]
        widened = centre + fit.rows.inflation * (drawn - centre)
        known = drawn.size and resamples_hold(fit)
        ends = np.quantile(widened, [(1 - level) / 2, (1 + level) / 2]) if known else (np.nan, np.nan)
        row |= {letter: float(centre), f"{letter}_low": float(ends[0]), f"{letter}_high": float(ends[1])}
    return row | {"n": float(upper[0][0]), "tokens": float(upper[1][0])}
