"""The interval of a forecast: several laws combined, and the three parts of their standard deviation.

Everything is a natural logarithm of the loss, so standard deviations are relative. A forecast has one value of each;
simulated studies (`testbed.analysis.design.power`) have one a study, and give arrays of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Combination:
    """The mean of the laws' log predictions, and the standard deviations that its interval is made of.

    Each is a number or an array [studies]. `sd_trunks`: the laws refitted to resampled trunks. `sd_seeds`: the seed
    noise of the target's mean. `sd_laws`: the laws' disagreement, the truth being anywhere between the outermost
    two, evenly likely; no resampling of the grid can show that part.
    """

    centre: Any
    sd_trunks: Any
    sd_seeds: Any
    sd_laws: Any

    def half_width(self, level: float) -> Any:
        """Half the width of the interval of this level, in logs."""
        sd = total_sd(self.sd_trunks, self.sd_seeds, self.sd_laws)
        return _NORMAL.inv_cdf((1 + level) / 2) * sd


def combine(centres: Sequence[Any], resamples: Sequence[Array], run_sd: Any, target_seeds: int) -> Combination:
    """The combination of log predictions `centres` [laws, ...] with their `resamples` [laws, ..., resamples].

    `run_sd` [...] is the pooled relative noise of a single run between seeds, and `target_seeds` the number of runs
    that the target's loss will be averaged over.
    """
    return Combination(
        centre=np.mean(centres, axis=0),
        sd_trunks=resampling_sd(np.mean(resamples, axis=0)),
        sd_seeds=run_sd / np.sqrt(target_seeds),
        sd_laws=np.ptp(np.asarray(centres), axis=0) / np.sqrt(12),
    )


def total_sd(sd_trunks: Any, sd_seeds: Any, sd_laws: Any) -> Any:
    """The standard deviation of the forecast: its three independent parts together."""
    return np.sqrt(sd_trunks**2 + sd_seeds**2 + sd_laws**2)


def resampling_sd(samples: Array) -> Any:
    """Standard deviation of samples [..., resamples] from their middle 90 %, so that a few degenerate refits do not count."""
    low, high = np.quantile(samples, [0.05, 0.95], axis=-1)
    return (high - low) / (2 * _NORMAL.inv_cdf(0.95))
