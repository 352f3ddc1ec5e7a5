"""How well losses are known, before and after further runs: a Gaussian belief for each draw of the parameters.

A belief is the joint covariance of the mean response at m candidate cells and at the target: the law's parameters
through its slopes, and a smooth misfit about it (see `fit.prediction`). A run adds its losses, with the noise that
they share and the noise of each; by how much that lowers the target's variance is exact algebra, and no loss needs to
be known for it (Rasmussen and Williams, 2006, equation 2.24).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.design.candidates import Option
from testbed.analysis.fit.prediction.predict import PER_DECADE

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Standard deviations of noise, in the space of residuals: `run` is shared by a run's losses, `row` is each loss's own."""

    run: float
    row: float

    @property
    def single(self) -> float:
        """The standard deviation of one loss of one run."""
        return float(np.hypot(self.run, self.row))


@dataclass(frozen=True)
class Belief:
    """Covariances [B, m + 1, m + 1] of the mean response at m cells and, last, at the target, for B draws of the parameters.

    `compute` [m + 1] are log10 FLOPs, and `reached` is the largest of any known run (-inf before the first); `new` is the
    variance of the target's own runs. `scale` corrects the target's variance under linearised laws to the one
    predicted at the estimate.
    """

    covariance: Array
    compute: Array
    reached: float
    noise: Noise
    new: float
    scale: float = 1.0

    @cached_property
    def variance(self) -> float:
        """The variance of the target's observed response, averaged over the draws."""
        return float(self._total(self.covariance[:, -1:, -1].mean(axis=0), np.array([self.reached]))[0])

    @property
    def sd(self) -> float:
        """The standard deviation of the target's observed response."""
        return float(np.sqrt(self.variance))

    def after(self, option: Option, seeds: int = 1) -> Belief:
        """The belief once `seeds` runs of this option are done."""
        cells = list(option.cells)
        block = self.covariance[:, cells][:, :, cells] + self._errors(len(cells)) / seeds
        across = self.covariance[:, cells, :]
        gained = across.transpose(0, 2, 1) @ np.linalg.solve(block, across)
        reached = max(self.reached, float(self.compute[cells].max()))
        return replace(self, covariance=self.covariance - gained, reached=reached)

    def variances(self, options: Sequence[Option], seeds: Array) -> Array:
        """The target's variance [options] after each option alone, done with so many `seeds` [options]."""
        left = np.empty(len(options))
        sizes = np.array([len(option.cells) for option in options])
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes == size)
            cells = np.array([options[int(i)].cells for i in rows])
            block = self.covariance[:, cells[:, :, None], cells[:, None, :]]
            block = block + self._errors(int(size)) / seeds[rows, None, None]
            across = self.covariance[:, cells, -1]
            gained = (across * np.linalg.solve(block, across[..., None])[..., 0]).sum(axis=-1)
            left[rows] = (self.covariance[:, -1:, -1] - gained).mean(axis=0)
        reached = np.array([self.compute[list(option.cells)].max() for option in options])
        return self._total(left, np.maximum(reached, self.reached))

    def _total(self, known: Array, reached: Array) -> Array:
        """The variance with the noise of the target's own runs and the error that a law gathers per decade of extrapolation."""
        gap = np.maximum(self.compute[-1] - np.maximum(reached, self.compute.min()), 0.0)
        return np.asarray(self.scale * np.maximum(known, 0.0) + self.new + (PER_DECADE * gap) ** 2)

    def _errors(self, size: int) -> Array:
        """The covariance [size, size] of the noise of one run's losses."""
        return np.full((size, size), self.noise.run**2) + self.noise.row**2 * np.eye(size)
