"""Warnings from the residuals: scatter that changes, trends that the law does not follow, misfit beyond the seeds' noise.

By ranks, so that a few bad runs cannot decide, and by whole runs, whose points share their noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import fdtrc

from testbed.analysis.fit.diagnostics.finding import Finding, finding
from testbed.analysis.fit.diagnostics.rank_tests import kruskal, spearman, two_sided
from testbed.analysis.fit.diagnostics.refits import Refits
from testbed.analysis.fit.estimate import robust_sd
from testbed.analysis.fit.settings import codes_of, design_columns

Array = NDArray[np.float64]

FLOOR = 1e-6  # of the response, below which residuals are rounding and show nothing
_RARE = 1e-3  # chance of a finding where there is nothing to find
_LEAST_RUNS = 20  # below which ranks say little
_TIMES = 2.0  # that the scatter at one end has to be of that at the other
_BEYOND_NOISE = 1.5  # that misfit and noise together have to be of noise alone
_LAST_SHARE, _LAST_LEAST = 0.1, 5  # the runs of most compute


def residual_findings(refits: Refits) -> Iterator[Finding]:
    """Uneven scatter, a trend, a bias at the largest runs, and misfit beyond the noise between seeds."""
    means, axes = _by_run(refits)
    unit = 1.0 if refits.fit.space == "log" else float(np.abs(refits.fit.rows.y).max())
    if robust_sd(refits.residuals) <= FLOOR * unit:
        return
    if len(means) >= _LEAST_RUNS:
        yield from _uneven(means, axes)
        yield from _trend(means, axes, refits.fit.space)
        if "compute" in axes:
            yield from _biased(means, axes["compute"], refits.fit.space)
    yield from _misfit(refits)


def _by_run(refits: Refits) -> tuple[Array, dict[str, Array]]:
    """The mean residual of each run [runs], and the runs' mean place along each axis."""
    table = pd.DataFrame({"resid": refits.residuals})
    domain = refits.domain
    if domain.compute is not None:
        table["compute"] = domain.compute[refits.rows]
    for k, name in enumerate(domain.names):
        table[name] = domain.rows[refits.rows, k]
    if "compute" in table and "flops" in table:
        table = table.drop(columns="flops")
    members = refits.members / np.asarray(refits.members.sum(axis=0))[None]
    runs = members.T @ table.to_numpy()
    return runs[:, 0], {name: runs[:, k] for k, name in enumerate(table.columns) if k}


def _uneven(means: Array, axes: dict[str, Array]) -> Iterator[Finding]:
    """Spearman's correlation of the residuals' size with each axis."""
    size = np.abs(means - np.median(means))
    found = []
    for name, at in axes.items():
        if np.ptp(at) == 0:
            continue
        z = spearman(size, at)
        low, high = (robust_sd(means[part]) for part in _thirds(at))
        times = max(low, high) / max(min(low, high), 1e-300)
        if two_sided(z) < _RARE / len(axes) and times > _TIMES:
            found.append((abs(z), name, low, high, times))
    if found:
        z, name, low, high, times = max(found)
        where = "small" if low > high else "large"
        evidence: dict[str, float | str] = {"axis": name, "spread_low": low, "spread_high": high, "z": z}
        yield finding("uneven-scatter", evidence, times=times, where=where, axis=name, low=low, high=high)


def _trend(means: Array, axes: dict[str, Array], space: str) -> Iterator[Finding]:
    """Kruskal and Wallis's test of the residuals' medians along each axis."""
    found = []
    for name, at in axes.items():
        bins = _bins(at)
        chance = kruskal(means, bins)
        if chance < _RARE / len(axes):
            found.append((chance, name, [float(np.median(means[bins == k])) for k in range(bins.max() + 1)]))
    if found:
        chance, name, medians = min(found)
        evidence: dict[str, float | str] = {"axis": name, "chance": chance}
        evidence |= {f"median {k + 1}": value for k, value in enumerate(medians)}
        shown = ", ".join(_shown(value, space) for value in medians)
        yield finding("residual-trend", evidence, axis=name, medians=shown)


def _biased(means: Array, compute: Array, space: str) -> Iterator[Finding]:
    """The median residual of the runs of most compute, in its standard errors."""
    last = np.argsort(compute, kind="stable")[-max(_LAST_LEAST, round(_LAST_SHARE * len(means))) :]
    median = float(np.median(means[last]))
    spread = max(robust_sd(means[last] - median), robust_sd(means))
    error = 1.2533 * spread / np.sqrt(len(last))  # of a median of normal errors
    if error > 0 and two_sided(median / error) < _RARE:
        yield finding(
            "biased-at-the-largest",
            {"median_residual": median, "standard_error": error, "runs": float(len(last))},
            runs=len(last),
            median=_shown(abs(median), space, False),
            side="above" if median > 0 else "below",
            errors=abs(median) / error,
        )


def _misfit(refits: Refits) -> Iterator[Finding]:
    """The F test of lack of fit, where designs were repeated with other seeds."""
    fit = refits.fit
    noise = fit.rows.noise_sd()
    if not (np.isfinite(noise) and noise > 0):
        return
    counts = np.asarray(fit.rows.members.sum(axis=1))
    number = codes_of(pd.DataFrame({name: fit.rows.columns[name] for name in design_columns(fit.law)}))
    weight = np.bincount(number, weights=counts)
    mean = np.bincount(number, weights=counts * fit.resid) / weight
    left = len(weight) - len(fit.problem.coordinates.free)
    freedom = float(len(fit.points) - len(weight))
    if left < 1 or freedom < 1:
        return
    ratio = float((weight * mean**2).sum() / left / noise**2)
    if ratio > _BEYOND_NOISE**2 and float(fdtrc(left, freedom, ratio)) < _RARE:
        apart = float(np.sqrt(np.average(mean**2, weights=weight)))
        yield finding(
            "misfit-beyond-noise",
            {"misfit_sd": apart, "noise_sd": noise, "F": ratio},
            designs=len(weight),
            apart=_shown(apart, fit.space, False),
            times=np.sqrt(ratio),
            noise=_shown(noise, fit.space, False),
        )


def _bins(at: Array) -> NDArray[np.intp]:
    """Bins along an axis [runs], at least some 8 runs in each, runs at one place in the same."""
    edges = np.unique(np.quantile(at, np.linspace(0, 1, min(8, len(at) // 8) + 1)[1:-1]))
    return np.asarray(np.unique(np.searchsorted(edges, at, side="left"), return_inverse=True)[1], np.intp)


def _thirds(at: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The lower and the upper third along an axis."""
    low, high = np.quantile(at, [1 / 3, 2 / 3])
    return at <= low, at >= high


def _shown(value: float, space: str, signed: bool = True) -> str:
    shown = f"{100 * value:+.2g} %" if space == "log" else f"{value:+.2g}"
    return shown if signed else shown.lstrip("+")
