"""The interval of the irreducible loss E that the grid supports, and whether it is narrow enough to be used.

A law's own interval for E only shows noise; its misfit shows when the law or the grid is changed. So the interval is
the union over the laws, each fitted to the whole grid, to the grid without its smallest size and to the grid
without its shortest horizon. Where that union is wide, E is not identified.
"""

from __future__ import annotations

import pandas as pd

from testbed.analysis.fit import fit_law
from testbed.analysis.fit.intervals import percentiles
from testbed.analysis.laws import find_law
from testbed.config import ForecastSettings
from testbed.records import Entropy, Interval

_WIDEST = 0.15  # width of an interval that identifies E, as a share of its middle
_FEWEST = 5  # cells that a fit of E needs more than, and more than the law's parameters


def entropy(clean: pd.DataFrame, settings: ForecastSettings) -> Entropy | None:
    """The interval of E in nats/token from the fitted columns (n, tokens, loss, run, ...); None if no law has an E."""
    grids = {
        "the whole grid": clean,
        "without the smallest size": clean[clean["n"] > clean["n"].min()],
        "without the shortest horizon": clean[clean["tokens"] > clean["tokens"].min()],
    }
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    for name in settings.laws:
        for which, grid in grids.items():
            bounds = _bounds(name, grid, settings)
            if bounds is not None:
                lows[f"{name}, {which}"], highs[f"{name}, {which}"] = bounds
    if not lows:
        return None
    low_at, high_at = min(lows, key=lambda k: lows[k]), max(highs, key=lambda k: highs[k])
    low, high = lows[low_at], highs[high_at]
    identified = high - low <= _WIDEST * (high + low) / 2
    reason = f"lowest by {low_at}: {low:.3f}; highest by {high_at}: {high:.3f}"
    return Entropy(interval=Interval(low=low, high=high, level=settings.level), identified=identified, reason=reason)


def _bounds(name: str, grid: pd.DataFrame, settings: ForecastSettings) -> tuple[float, float] | None:
    """A law's interval of E from one grid; None where it has no E or the grid is too small for it."""
    law = find_law(name)
    of_n_and_tokens = any(column not in grid for column in law.columns)  # FLOPs, or tokens a parameter
    cells = grid[["n", "tokens"] if of_n_and_tokens else [*law.columns]].drop_duplicates()
    too_small = len(cells) <= max(_FEWEST, len(law.parameters)) or int(cells.nunique().min()) < 2
    if too_small or all(parameter.name != "E" for parameter in law.parameters):
        return None
    fit = fit_law(law, grid, delta=settings.delta, replicates="mean", n_boot=settings.bootstrap, seed=settings.seed)
    bounds = percentiles(fit, settings.level)
    return float(bounds["low"]["E"]), float(bounds["high"]["E"])
