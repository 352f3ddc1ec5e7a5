"""Whether the normalised loss curves of a finished sweep collapse onto one, and which rungs depart.

The normalised loss curves of a well-scaled family collapse, and a rung that is trained badly stands out (arXiv:2507.02119:
(L(t) - E) / (L(T) - E) of compute-optimal runs). The curves here are trunks at constant rate over the same tokens on
every rung, where E and the term of N stay in every loss. So a curve is normalised as (L(t) - L(T)) / (L(t0) - L(T)):
its level and the size of its fall cancel, its shape is left. Shapes change slowly with N: a rung is compared with the
straight line in log N through the others, or with their mean where they are fewer than three.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from testbed.records import Record

Array = NDArray[np.float64]

_START = 0.1  # share of the trunk's tokens from which curves are compared, past the warm-up
_PLACES = 6  # at which curves are compared, evenly in the logarithm, when runs logged at different tokens
_LEAST_NOISE = 1e-6  # of the fall: what rounding leaves
_FALSE_ALARM = 0.01  # chance of naming a rung in a sweep in which nothing is wrong


class Stray(Record):
    """A rung whose curve departs: by how much of the fall, at the share of the trunk's tokens where `z` is largest."""

    width: int
    share: float
    departure: float
    error: float
    z: float


class Collapse(Record):
    """How well the curves agree: `spread` between rungs and `noise` between seeds, root mean squares as shares of the fall."""

    rungs: int
    runs: int
    shares: tuple[float, ...]
    spread: float
    noise: float
    strays: tuple[Stray, ...]


def collapse(points: pd.DataFrame) -> Collapse | None:
    """The comparison of the grid's trunks in a study's points table; None where it cannot be made.

    It needs three rungs, two seeds of some rung, and three losses on every trunk after a tenth of its tokens.
    """
    trunks = points[(points["phase"] == "stable") & (points["role"] == "grid")]
    runs = [run.sort_values("tokens") for _, run in trunks.groupby("run", sort=False)]
    if not runs:
        return None
    shares = _shares(runs)
    if len(shares) < 3:
        return None
    table = pd.DataFrame(
        [_curve(run, shares) for run in runs],
        index=pd.MultiIndex.from_tuples(
            [(int(r["width"].iloc[0]), float(r["n_params_non_embedding"].iloc[0])) for r in runs]
        ),
    )
    groups = table.groupby(level=[0, 1], sort=True)
    means, counts = groups.mean(), np.asarray(groups.size(), np.intp)
    freedom = int((counts - 1).sum())
    if len(means) < 3 or freedom == 0:
        return None
    inner = slice(1, -1)  # every curve is 1 at the first place and 0 at the last
    squares = ((table - groups.transform("mean")) ** 2).sum().to_numpy()[inner]
    noise = np.maximum(np.sqrt(squares / freedom), _LEAST_NOISE)
    curves = means.to_numpy()[:, inner]
    return Collapse(
        rungs=len(means),
        runs=len(runs),
        shares=tuple(float(share) for share in shares),
        spread=float(np.sqrt(((curves - curves.mean(axis=0)) ** 2).mean() * len(means) / (len(means) - 1))),
        noise=float(np.sqrt((noise**2).mean())),
        strays=_strays(pd.MultiIndex.from_tuples(list(means.index)), curves, noise, counts, freedom, shares[inner]),
    )


def _shares(runs: list[pd.DataFrame]) -> Array:
    """Shares of the trunk's tokens to compare at: those logged by every run, or evenly spaced ones to interpolate to."""
    each = [run["tokens"].to_numpy(float) / float(run["tokens"].iloc[-1]) for run in runs]
    each = [share[share >= _START] for share in each]
    if all(len(share) == len(each[0]) and np.allclose(share, each[0], rtol=0.01) for share in each):
        return each[0]
    if min(len(share) for share in each) < 3:
        return np.empty(0)
    return np.geomspace(max(float(share[0]) for share in each), 1.0, _PLACES)


def _curve(run: pd.DataFrame, shares: Array) -> Array:
    at = np.log(run["tokens"].to_numpy(float) / float(run["tokens"].iloc[-1]))
    losses = np.interp(np.log(shares), at, run["loss"].to_numpy(float))
    return np.asarray((losses - losses[-1]) / (losses[0] - losses[-1]))


def _strays(
    rungs: pd.MultiIndex, curves: Array, noise: Array, counts: NDArray[np.intp], freedom: int, shares: Array
) -> tuple[Stray, ...]:
    """Rungs that depart, the worst first; each is left out before the rest are compared again."""
    widths, log_n = rungs.get_level_values(0).to_numpy(int), np.log(rungs.get_level_values(1).to_numpy(float))
    critical = float(student.ppf(1 - _FALSE_ALARM / (2 * curves.size), freedom))
    left = np.arange(len(curves))
    strays = []
    while len(left) >= 3:
        departures, errors = _departures(log_n[left], curves[left], counts[left])
        z = departures / (errors[:, None] * noise)
        k, at = np.unravel_index(int(np.argmax(np.abs(z))), z.shape)
        if abs(z[k, at]) <= critical:
            break
        error = float(errors[k] * noise[at])
        found = {"departure": float(departures[k, at]), "error": error, "z": float(z[k, at])}
        strays.append(Stray(width=int(widths[left[k]]), share=float(shares[at]), **found))
        left = np.delete(left, k)
    return tuple(strays)


def _departures(log_n: Array, curves: Array, counts: NDArray[np.intp]) -> tuple[Array, Array]:
    """Each rung's curve minus the one expected from the others [rungs, places], and its error in units of a run's [rungs]."""
    departures, errors = np.empty_like(curves), np.empty(len(curves))
    for k in range(len(curves)):
        others = np.arange(len(curves)) != k
        columns = [np.ones(len(curves)), log_n - log_n[k]][: 2 if others.sum() >= 3 else 1]
        weights = np.linalg.pinv(np.stack(columns, axis=1)[others])[0]
        departures[k] = curves[k] - weights @ curves[others]
        errors[k] = np.sqrt(1 / counts[k] + (weights**2 / counts[others]).sum())
    return departures, errors
