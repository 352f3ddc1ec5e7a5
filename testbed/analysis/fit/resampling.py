"""Which rows a law is fitted to, and how they are resampled: whole runs at a time.

The losses of one run share its noise, so a run is drawn with all its points or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from testbed.analysis.laws import Law

Array = NDArray[np.float64]
Replicates = Literal["separate", "mean"]

_AT_A_TIME = 2e7  # weights that are held at once


@dataclass(frozen=True)
class Rows:
    """Rows of a fit: raw `columns` [rows] and the mean response `y` of each, its log where residuals are of logs.

    `members` [rows, units] says which runs made each row, `responses` likewise with their responses;
    `designs` are the columns of each point, with the number of its `setting` where points of one design differ in
    more than a seed; `units` the number of its run, `names` the runs'. Where a single run made them all, its points
    are the units: nothing else can be drawn, though they share their noise.
    """

    columns: dict[str, NDArray[Any]]
    y: Array
    members: sparse.csr_array
    responses: sparse.csr_array
    designs: pd.DataFrame
    units: NDArray[np.intp]
    names: tuple[str, ...]
    n_runs: int

    @classmethod
    def of(
        cls,
        points: pd.DataFrame,
        law: Law,
        space: str,
        replicates: Replicates,
        settings: NDArray[np.intp] | None = None,
    ) -> Rows:
        """From a table's columns of the law, its response and run: a row a point, or a row the mean of one design's seeds.

        `settings` [points] number what differs between points of one design other than their seed (see `Settings`):
        points of two settings are no replicates of each other.
        """
        units, runs = pd.factorize(points["run"])
        names = tuple(map(str, runs))
        if len(runs) == 1:
            units, names = np.arange(len(points)), tuple(f"{names[0]}, row {k + 1}" for k in range(len(points)))
        by = [name for name in law.columns if name != "run"]
        designs = points[by] if settings is None else points[by].assign(setting=settings)
        row = _cells(designs) if replicates == "mean" else np.arange(len(points))
        shape = (int(row.max()) + 1, len(names))
        response = points[law.response].to_numpy(np.float64)
        y = np.log(response) if space == "log" else response
        members = sparse.coo_array((np.ones(len(points)), (row, units)), shape=shape).tocsr()
        responses = sparse.coo_array((y, (row, units)), shape=shape).tocsr()
        if replicates == "mean":
            table = points[by].assign(y=y).groupby(row, sort=True).mean()
            columns = {name: table[name].to_numpy() for name in by}
            y = table["y"].to_numpy()
        else:
            columns = {name: points[name].to_numpy() for name in law.columns}
        return cls(columns, y, members, responses, designs, units, names, len(runs))

    @property
    def n_units(self) -> int:
        """The number of runs (or points of a single run) to draw from."""
        return len(self.names)

    @cached_property
    def strata(self) -> NDArray[np.intp]:
        """Number of each run's design [runs]: runs with the same points are replicates of each other."""
        cells = _cells(self.designs)
        marks = np.random.default_rng(0).random((int(cells.max()) + 1, 2))  # cells are known by the sum of their marks
        sums = [np.bincount(self.units, weights=marks[cells, k], minlength=self.n_units).round(9) for k in range(2)]
        counts = np.bincount(self.units, minlength=self.n_units)
        return _cells(pd.DataFrame({"count": counts, "first": sums[0], "second": sums[1]}))

    @cached_property
    def seeds(self) -> int:
        """Fewest runs of one design (the same columns): 1 where some run has no replicate."""
        return int(np.bincount(self.strata).min())

    @property
    def inflation(self) -> float:
        """The factor on the spread of resamples that corrects for the finite number of seeds.

        Drawing S of S replicates with replacement has (S - 1) / S of the variance of S new ones.
        """
        return math.sqrt(self.seeds / (self.seeds - 1)) if self.seeds > 1 else 1.0

    def times(self, count: int, seed: int) -> Iterator[Array]:
        """Counts of each run in each resample [some, runs], in batches; drawn among replicates where every run has one."""
        rng = np.random.default_rng(seed)
        groups = self.strata if self.seeds > 1 else np.zeros(self.n_units, np.intp)
        order = np.argsort(groups, kind="stable")
        sizes = np.bincount(groups)
        first = np.repeat(np.cumsum(sizes) - sizes, sizes)
        span = np.repeat(sizes, sizes)
        batch = max(1, int(_AT_A_TIME / max(self.n_units, len(self.y))))
        for start in range(0, count, batch):
            some = min(batch, count - start)
            drawn = order[first + (rng.random((some, self.n_units)) * span).astype(np.intp)]
            flat = drawn + self.n_units * np.arange(some)[:, None]
            yield np.bincount(flat.ravel(), minlength=some * self.n_units).reshape(some, -1).astype(np.float64)

    def resampled(self, times: Array) -> tuple[Array, Array]:
        """Responses, [rows] or [some, rows], and weights [some, rows] when each run is drawn so often."""
        counts = np.asarray(self.members.sum(axis=1))
        drawn = times @ self.members.T
        weights = drawn / counts
        if counts.max() == 1:
            return self.y, weights
        return np.where(drawn > 0, times @ self.responses.T / np.maximum(drawn, 1), self.y), weights

    def noise_sd(self) -> float:
        """Pooled standard deviation of the response between seeds of one design (relative, in log space); nan without.

        Rows of one design that differ in another column than a seed do not count.
        """
        counts = self.members.sum(axis=1)
        if counts.max() > 1:  # rows are means of their seeds
            squares = (self.responses.multiply(self.responses)).sum(axis=1) - counts * self.y**2
            freedom = (counts - 1).sum()
            return math.sqrt(max(float(squares.sum()), 0.0) / freedom) if freedom else math.nan
        groups = pd.Series(self.y).groupby(_cells(self.designs))
        freedom = len(self.y) - groups.ngroups
        return math.sqrt(float(((self.y - groups.transform("mean")) ** 2).sum()) / freedom) if freedom else math.nan


def _cells(designs: pd.DataFrame) -> NDArray[np.intp]:
    """Number of each row's combination of values [rows]."""
    return np.asarray(designs.groupby(list(designs.columns), sort=True).ngroup(), np.intp)
