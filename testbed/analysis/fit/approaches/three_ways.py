"""The three approaches to the compute-optimal model of arXiv:2203.15556, section 3, on one table, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from testbed.analysis.fit.approaches.allocation import Allocation, approach_1, approach_2
from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.frontier import best_sizes
from testbed.analysis.fit.result import Fit
from testbed.analysis.laws import Law
from testbed.errors import TestbedError


@dataclass(frozen=True, eq=False)
class ThreeWays:
    """`table` has a row an approach: the exponents a of N* ~ C^a and b of D* ~ C^b with intervals, and N*, D* at `flops`.

    `refused` has the approaches that the table does not allow, with the reason.
    """

    flops: float
    table: pd.DataFrame
    refused: dict[str, str]


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
    makers: dict[str, Callable[[], Allocation]] = {
        "1, envelope": lambda: approach_1(data, columns=columns, n_boot=min(n_boot, 400), seed=seed, where=where),
        "2, IsoFLOP": lambda: approach_2(data, budgets=budgets, columns=columns, n_boot=n_boot, seed=seed, where=where),
    }
    rows, refused = [], {}
    for name, maker in makers.items():
        try:
            rows.append({"approach": name, **_lines(maker(), flops, level)})
        except TestbedError as error:
            refused[name] = str(error)
    rows.append({"approach": f"3, {fit.law.name}", **_fitted(fit, flops, level)})
    return ThreeWays(flops, pd.DataFrame(rows), refused)


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
        ends = np.quantile(widened, [(1 - level) / 2, (1 + level) / 2]) if drawn.size else (np.nan, np.nan)
        row |= {letter: float(centre), f"{letter}_low": float(ends[0]), f"{letter}_high": float(ends[1])}
    return row | {"n": float(upper[0][0]), "tokens": float(upper[1][0])}
