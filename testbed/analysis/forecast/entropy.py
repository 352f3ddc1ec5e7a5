"""What the grid says of the irreducible loss E, and whether it says anything.

A law's own interval for E only shows noise; its misfit shows when the law or the grid is changed. So
the interval is the union over the laws, fitted to the whole grid, to the grid without its smallest
size and to the grid without its shortest horizon. Where that union is wide, E is not identified.
"""

from __future__ import annotations

import pandas as pd

from testbed.analysis.fit import fit_law
from testbed.config import Forecast as Settings
from testbed.records import Entropy, Interval

_WIDEST = 0.15  # of its middle; a wider union tells nothing


def entropy(clean: pd.DataFrame, settings: Settings) -> Entropy | None:
    """E in nats/token from columns n, tokens, loss, run; None where no law of the forecast has an E."""
    grids = {
        "the whole grid": clean,
        "without the smallest size": clean[clean["n"] > clean["n"].min()],
        "without the shortest horizon": clean[clean["tokens"] > clean["tokens"].min()],
    }
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    for name in settings.laws:
        for what, grid in grids.items():
            bounds = _bounds(name, grid, settings)
            if bounds is not None:
                lows[f"{name}, {what}"], highs[f"{name}, {what}"] = bounds
    if not lows:
        return None
    low_at, high_at = min(lows, key=lambda k: lows[k]), max(highs, key=lambda k: highs[k])
    low, high = lows[low_at], highs[high_at]
    identified = high - low <= _WIDEST * (high + low) / 2
    reason = f"lowest by {low_at}: {low:.3f}; highest by {high_at}: {high:.3f}"
    return Entropy(interval=Interval(low=low, high=high, level=settings.level), identified=identified, reason=reason)


def _bounds(name: str, grid: pd.DataFrame, settings: Settings) -> tuple[float, float] | None:
    if min(grid["n"].nunique(), grid["tokens"].nunique()) < 2 or len(grid.groupby(["n", "tokens"])) <= 5:
        return None
    fit = fit_law(name, grid, delta=settings.delta, replicates="mean", n_boot=settings.bootstrap, seed=settings.seed)
    if "E" not in fit.params:
        return None
    return fit.interval("E", settings.level)
