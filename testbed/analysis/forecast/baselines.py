"""What a forecast has to beat: guesses that need no law of N and D."""

from __future__ import annotations

import numpy as np
import pandas as pd


def baselines(cells: pd.DataFrame, target_flops: float) -> dict[str, float]:
    """Loss in nats/token at the target by each baseline; `cells` has flops and loss, one row a cell of the grid.

    "last point": the loss of the cell with the most compute. "power law in compute": a straight line in
    log loss against log FLOPs through the cells that no cheaper cell beats (arXiv:2001.08361, eq. 1.3,
    without an irreducible loss).
    """
    ordered = cells.sort_values("flops")
    guesses = {"last point": float(ordered["loss"].iloc[-1])}
    best = ordered[ordered["loss"] <= ordered["loss"].cummin()]
    if len(best) >= 2:
        slope, offset = np.polyfit(np.log(best["flops"]), np.log(best["loss"]), 1)
        guesses["power law in compute"] = float(np.exp(offset + slope * np.log(target_flops)))
    return guesses
