"""Step Law: the learning rate and the batch that suit a size and a budget, and the optima of a grid to fit them to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.laws.law import AdditiveLaw, amplitude, real
from testbed.errors import TableError


class _Growing(AdditiveLaw):
    """One term c x^a ...: an additive law in 1/x, so that its exponents have the paper's signs."""

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """The inverse of each column [n]."""
        return {f"per_{name}": 1 / np.asarray(columns[name], np.float64) for name in self.columns}


class StepLawLR(_Growing):
    """The optimal peak LR of Step Law, Li et al., arXiv:2503.04715, equation 1, for a schedule that ends at a fixed LR.

    N parameters without embeddings, D tokens. Fit it to optima of grids (see `grid_optima`), not to runs.
    """

    name = "step_law_lr"
    parameters = (amplitude("c", {"per_n": "a", "per_tokens": "b"}), real("a"), real("b"))
    columns = ("n", "tokens")
    response = "peak_lr"
    formula = r"\eta = c N^{a} D^{b}"
    source = "arXiv:2503.04715, eq. 1"


class StepLawBatch(_Growing):
    """The optimal batch, in tokens, of Step Law, Li et al., arXiv:2503.04715, equation 1; D tokens.

    Fit it to optima of grids (see `grid_optima`), not to runs.
    """

    name = "step_law_batch"
    parameters = (amplitude("c", {"per_tokens": "b"}), real("b"))
    columns = ("tokens",)
    response = "batch_tokens"
    formula = r"B = c D^{b}"
    source = "arXiv:2503.04715, eq. 1"


def grid_optima(
    runs: pd.DataFrame, cells: tuple[str, ...] = ("n", "tokens"), within: float = 0.02
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The best peak LR and batch_tokens of each cell of a sweep over both, by a quadratic surface; and the cells left out.

    `runs` has `cells`, peak_lr (or lr), batch_tokens and loss. In each cell the log loss of the runs within a share
    `within` of the best is fitted by a quadratic in log LR and log batch_tokens, of which the optimum is
    the lowest point. A cell is left out (columns `cells` and why) where the surface has no lowest point
    inside the grid. TableError when that is every cell.
    """
    rate = "peak_lr" if "peak_lr" in runs.columns else "lr"
    found, lost = [], []
    for cell, group in runs.groupby(list(cells)):
        place = dict(zip(cells, cell, strict=True))
        try:
            found.append({**place, **_lowest(group[group["loss"] <= group["loss"].min() * (1 + within)], group, rate)})
        except _NoMinimumError as reason:
            lost.append({**place, "why": str(reason)})
    if not found:
        raise TableError(f"no cell of {', '.join(cells)} has an optimal {rate} and batch_tokens: {lost[0]['why']}")
    return pd.DataFrame(found), pd.DataFrame(lost, columns=[*cells, "why"])


class _NoMinimumError(Exception):
    """A cell whose best rate and batch its runs do not show."""


def _lowest(near: pd.DataFrame, grid: pd.DataFrame, rate: str) -> dict[str, float]:
    if len(near) < 7:
        raise _NoMinimumError(f"{len(near)} runs near the best; give 7 or more, or a wider share")
    log = np.log(near[[rate, "batch_tokens"]].to_numpy(np.float64))
    middle = log.mean(axis=0)
    x, y = (log - middle).T
    design = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    c = np.linalg.lstsq(design, np.log(near["loss"].to_numpy(np.float64)), rcond=None)[0]
    bend = np.array([[2 * c[3], c[4]], [c[4], 2 * c[5]]])
    if np.linalg.eigvalsh(bend)[0] <= 0:
        raise _NoMinimumError("the surface has no lowest point; widen the grid around the best run")
    best = -np.linalg.solve(bend, c[1:3])
    lr, batch = np.exp(best + middle)
    for name, value in ((rate, lr), ("batch_tokens", batch)):
        if not grid[name].min() <= value <= grid[name].max():
            raise _NoMinimumError(f"the best {name} lies outside the grid, at {value:.3g}; widen it")
    return {rate: float(lr), "batch_tokens": float(batch), "loss": float(np.exp(c[0] + c[1:3] @ best / 2))}
