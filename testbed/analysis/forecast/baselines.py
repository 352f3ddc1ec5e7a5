"""Baselines: predictions of the target that need no law of N and D, for a forecast to beat."""

from __future__ import annotations

import numpy as np
import pandas as pd


def baselines(cells: pd.DataFrame, target_flops: float) -> dict[str, float]:
    """Each baseline's loss at the target, in nats/token; `cells` has columns flops and loss, one row a cell of the grid.

    "last point": the loss of the cell with the most compute. "power law in compute": a straight line in log loss
    against log FLOPs through the cells that no cheaper cell beats (arXiv:2001.08361, eq. 1.3, without an
    irreducible loss); left out where there is only one such cell.
    """
    ordered = cells.sort_values("flops")
    found = {"last point": float(ordered["loss"].iloc[-1])}
    best = ordered[ordered["loss"] <= ordered["loss"].cummin()]
    if len(best) >= 2:
        slope, offset = np.polyfit(np.log(best["flops"]), np.log(best["loss"]), 1)
        found["power law in compute"] = float(np.exp(offset + slope * np.log(float(target_flops))))
    return found
