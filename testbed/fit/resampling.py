"""Which rows a law is fitted to, and how they are resampled: whole runs at a time.

The losses of one run share its noise, so a run is drawn with all its points or not at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[np.float64]
Replicates = Literal["separate", "mean"]


@dataclass(frozen=True)
class Rows:
    """Rows of a fit. `table` has n, tokens and the mean log loss y; `members` [rows, runs] says which runs made each."""

    table: pd.DataFrame
    members: sparse.csr_array
    log_losses: sparse.csr_array
    strata: NDArray[np.intp]

    @classmethod
    def of(cls, points: pd.DataFrame, replicates: Replicates) -> Rows:
        """From columns n, tokens, loss, run: each point a row, or the mean of the seeds at each (n, tokens)."""
        run, names = pd.factorize(points["run"])
        cells = points.groupby(["n", "tokens"], sort=True).ngroup().to_numpy()
        row = cells if replicates == "mean" else np.arange(len(points))
        shape = (int(row.max()) + 1, len(names))
        y = np.log(points["loss"].to_numpy())
        members = sparse.coo_array((np.ones(len(points)), (row, run)), shape=shape).tocsr()
        log_losses = sparse.coo_array((y, (row, run)), shape=shape).tocsr()
        table = points[["n", "tokens"]].assign(y=y).groupby(row, sort=True).mean()
        return cls(table, members, log_losses, _strata(points, run, len(names)))

    @property
    def columns(self) -> dict[str, Array]:
        """The law's columns, each [rows]."""
        return {"n": self.table["n"].to_numpy(), "tokens": self.table["tokens"].to_numpy()}

    @property
    def y(self) -> Array:
        """Mean log loss of each row [rows]."""
        return self.table["y"].to_numpy()

    @property
    def n_runs(self) -> int:
        """Runs that made the rows."""
        return int(self.members.shape[1])

    @cached_property
    def seeds(self) -> int:
        """Fewest runs of one design (same n and tokens): 1 where some run has no replicate."""
        return int(np.bincount(self.strata).min())

    @property
    def inflation(self) -> float:
        """What a resample's spread is multiplied by.

        Drawing S of S replicates with replacement has (S - 1) / S of the variance of S new ones.
        """
        return math.sqrt(self.seeds / (self.seeds - 1)) if self.seeds > 1 else 1.0

    def draw(self, count: int, seed: int) -> tuple[Array, Array]:
        """Y and weights [count, rows] of resampled runs: among replicates where all have some, else among all runs."""
        rng = np.random.default_rng(seed)
        drawn = np.zeros((count, self.n_runs))
        groups = self.strata if self.seeds > 1 else np.zeros(self.n_runs, np.intp)
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            drawn[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), count)
        times = drawn @ self.members.T
        weights = times / self.members.sum(axis=1)
        y = np.where(times > 0, drawn @ self.log_losses.T / np.maximum(times, 1), self.y)
        return y, weights

    def seed_sd(self) -> float:
        """Pooled relative standard deviation of the loss between seeds of one row; nan without replicates."""
        counts = self.members.sum(axis=1)
        squares = (self.log_losses.multiply(self.log_losses)).sum(axis=1) - counts * self.y**2
        freedom = (counts - 1).sum()
        return math.sqrt(max(float(squares.sum()), 0.0) / freedom) if freedom else math.nan


def _strata(points: pd.DataFrame, run: NDArray[np.intp], n_runs: int) -> NDArray[np.intp]:
    """Number of each run's design: runs with the same (n, tokens) rows are replicates of each other."""
    designs: dict[object, int] = {}
    strata = np.empty(n_runs, np.intp)
    for index, (_, group) in enumerate(points.groupby(run, sort=True)):
        design = tuple(sorted(zip(group["n"], group["tokens"], strict=True)))
        strata[index] = designs.setdefault(design, len(designs))
    return strata
