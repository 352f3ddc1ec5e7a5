"""What the residuals say: scatter that changes, trends that the law does not follow, misfit beyond the seeds' noise.

By ranks, so that a few bad runs decide nothing, and by whole runs, whose points share their noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit.diagnostics.finding import Finding
from testbed.analysis.fit.diagnostics.refits import Refits

Array = NDArray[np.float64]

_RARE = 1e-3  # chance of a finding where there is nothing to find
_LEAST_RUNS = 20  # below which ranks say little
_TIMES = 2.0  # that the scatter at one end has to be of that at the other
_BEYOND_NOISE = 1.5  # that misfit and noise together have to be of noise alone
_LAST_SHARE, _LAST_LEAST = 0.1, 5  # the runs of most compute


def residual_findings(refits: Refits) -> Iterator[Finding]:
    """What a look at the residuals would show."""
    means, axes = _by_run(refits)
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
    size = _ranks(np.abs(means - np.median(means)))
    found = []
    for name, at in axes.items():
        if np.ptp(at) == 0:
            continue
        z = float(np.corrcoef(size, _ranks(at))[0, 1]) * np.sqrt(len(means) - 1)
        low, high = (_spread(means[part]) for part in _ends(at))
        times = max(low, high) / max(min(low, high), 1e-300)
        if _normal_tail(z) < _RARE / len(axes) and times > _TIMES:
            found.append((abs(z), name, low, high, times))
    if found:
        z, name, low, high, times = max(found)
        where = "small" if low > high else "large"
        yield Finding(
            "uneven-scatter",
            f"The scatter about the law is {times:.1f} times as large at {where} {name} as at the other end "
            f"({low:.2g} against {high:.2g}): intervals by resampling allow for that, profiles and AICc do not.",
            {"axis": name, "spread_low": low, "spread_high": high, "z": z},
        )


def _trend(means: Array, axes: dict[str, Array], space: str) -> Iterator[Finding]:
    """Kruskal and Wallis's test of the residuals' medians along each axis."""
    found = []
    for name, at in axes.items():
        bins = _bins(at)
        chance = _kruskal(means, bins)
        if chance < _RARE / len(axes):
            found.append((chance, name, [float(np.median(means[bins == k])) for k in range(bins.max() + 1)]))
    if found:
        chance, name, medians = min(found)
        evidence: dict[str, float | str] = {f"median {k + 1}": value for k, value in enumerate(medians)}
        shown = ", ".join(_shown(value, space) for value in medians)
        yield Finding(
            "residual-trend",
            f"The residuals go with {name}: from small to large their medians are {shown}. The law does not bend as the "
            "data do: compare laws, and extrapolate with prediction intervals, which allow for misfit.",
            {"axis": name, "chance": chance, **evidence},
        )


def _biased(means: Array, compute: Array, space: str) -> Iterator[Finding]:
    """The median residual of the runs of most compute, in its standard errors."""
    last = np.argsort(compute, kind="stable")[-max(_LAST_LEAST, round(_LAST_SHARE * len(means))) :]
    median = float(np.median(means[last]))
    spread = max(_spread(means[last] - median), _spread(means))
    error = 1.2533 * spread / np.sqrt(len(last))  # of a median of normal errors
    if error > 0 and _normal_tail(median / error) < _RARE:
        side = "above" if median > 0 else "below"
        yield Finding(
            "biased-at-the-largest",
            f"The {len(last)} runs of most compute lie {_shown(abs(median), space, False)} {side} the law "
            f"({abs(median) / error:.1f} standard errors): an extrapolation will be off to that side; fit the larger runs "
            "alone, or use prediction intervals.",
            {"median_residual": median, "standard_error": error, "runs": float(len(last))},
        )


def _misfit(refits: Refits) -> Iterator[Finding]:
    """The F test of lack of fit, where designs were repeated with other seeds."""
    fit = refits.fit
    noise = fit.rows.noise_sd()
    if not (np.isfinite(noise) and noise > 0):
        return
    counts = np.asarray(fit.rows.members.sum(axis=1))
    by = [str(name) for name in fit.rows.designs]
    cells = pd.DataFrame({name: fit.rows.columns[name] for name in by}).groupby(by, sort=False)
    number = cells.ngroup().to_numpy()
    weight = np.bincount(number, weights=counts)
    mean = np.bincount(number, weights=counts * fit.resid) / weight
    left = len(weight) - len(fit.problem.coordinates.free)
    freedom = float(len(fit.points) - len(weight))
    if left < 1 or freedom < 1:
        return
    from scipy.special import fdtrc

    ratio = float((weight * mean**2).sum() / left / noise**2)
    if ratio > _BEYOND_NOISE**2 and float(fdtrc(left, freedom, ratio)) < _RARE:
        apart = float(np.sqrt(np.average(mean**2, weights=weight)))
        yield Finding(
            "misfit-beyond-noise",
            f"The means of the {len(weight)} designs lie {_shown(apart, fit.space, False)} (sd) off the law, "
            f"{np.sqrt(ratio):.1f} times what the noise between seeds ({_shown(noise, fit.space, False)}) leaves in them: that "
            "is the law's misfit, and more seeds will not help; compare laws, and use prediction intervals.",
            {"misfit_sd": apart, "noise_sd": noise, "F": ratio},
        )


def _bins(at: Array) -> NDArray[np.intp]:
    """Bins along an axis [runs], at least some 8 runs in each, runs at one place in the same."""
    edges = np.unique(np.quantile(at, np.linspace(0, 1, min(8, len(at) // 8) + 1)[1:-1]))
    return np.asarray(np.unique(np.searchsorted(edges, at, side="left"), return_inverse=True)[1], np.intp)


def _kruskal(values: Array, bins: NDArray[np.intp]) -> float:
    """The chance of medians so different."""
    from scipy.special import chdtrc

    count = np.bincount(bins)
    if len(count) < 2:
        return 1.0
    n = len(values)
    mean = np.bincount(bins, weights=_ranks(values)) / count
    return float(chdtrc(len(count) - 1, 12 / (n * (n + 1)) * (count * (mean - (n + 1) / 2) ** 2).sum()))


def _ends(at: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The lower and the upper third along an axis."""
    low, high = np.quantile(at, [1 / 3, 2 / 3])
    return at <= low, at >= high


def _spread(values: Array) -> float:
    """Robust standard deviation about 0."""
    return float(1.4826 * np.median(np.abs(values)))


def _ranks(values: Array) -> Array:
    return np.asarray(pd.Series(values).rank(), np.float64)


def _normal_tail(z: float) -> float:
    """The chance of so large a standard normal, on either side."""
    from scipy.special import ndtr

    return float(2 * ndtr(-abs(z)))


def _shown(value: float, space: str, signed: bool = True) -> str:
    shown = f"{100 * value:+.2g} %" if space == "log" else f"{value:+.2g}"
    return shown if signed else shown.lstrip("+")
