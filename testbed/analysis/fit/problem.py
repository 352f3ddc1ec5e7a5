"""The minimisation problem of one law on one table, shared by a fit, its resamples and its profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.fit.coordinates import Coordinates
from testbed.analysis.fit.kernels import Kernel, kernel_of
from testbed.analysis.fit.search import Search, global_minimum
from testbed.analysis.fit.solver import Minimum, huber_likelihood, least_absolute, minimise
from testbed.analysis.laws import Columns

Array = NDArray[np.float64]
Loss = Literal["huber", "lad", "ls", "huber-likelihood"]


@dataclass(frozen=True)
class Problem:
    """The residuals of `coordinates`' law at prepared `columns`, weighed by `loss`.

    "huber": the sum of Huber losses of width `delta` (arXiv:2203.15556, appendix D.2). "lad": the sum of
    absolute residuals. "ls": half the sum of squares. "huber-likelihood": the negative log-likelihood of
    Huber's density with a free scale (arXiv:2404.10102). Residuals are of the log response, or of the
    response itself, by `coordinates.space`.
    """

    coordinates: Coordinates
    columns: Columns
    loss: Loss
    delta: float

    @cached_property
    def kernel(self) -> Kernel:
        """The objective's derivatives."""
        return kernel_of(self.coordinates, self.columns)

    def best(self, y: Array) -> tuple[Minimum, Search]:
        """The global minimum [1] for responses y [n], all rows weighing the same, and how its search went."""
        ones = np.ones((1, len(y)))
        found, search = global_minimum(self.kernel, y, ones[0], self._width, self._unit)
        return (self.solve(y, ones, found.phi) if self._sharp else found), search

    def nearest(self, y: Array, theta: Mapping[str, float]) -> tuple[Minimum, Search]:
        """The minimum [1] next to given parameters."""
        found = self.solve(y, np.ones((1, len(y))), self.coordinates.coordinates(theta)[None])
        return found, Search(1, 1, 1)

    def solve(self, y: Array, weights: Array, starts: Array) -> Minimum:
        """The minima nearest to starts [B, p] under weights [B, n]; y [n] or [B, n]."""
        if self.loss == "lad":
            return least_absolute(self.kernel, y, weights, starts)
        if self.loss == "huber-likelihood":
            return huber_likelihood(self.kernel, y, weights, starts, self.delta)
        return minimise(self.kernel, y, weights, starts, self._width, steps=100)

    @property
    def _unit(self) -> float:
        """The size of residuals that a delta of 1 stands for: 1 in log space, else the typical response."""
        return 1.0 if self.coordinates.space == "log" else self.coordinates.typical

    @property
    def _sharp(self) -> bool:
        """Whether the objective is reached from a Huber optimum."""
        return self.loss in ("lad", "huber-likelihood")

    @property
    def _width(self) -> float:
        """The Huber width that the search minimises with."""
        if self.loss == "ls":
            return np.inf
        return 1e-3 * self._unit if self._sharp else self.delta
