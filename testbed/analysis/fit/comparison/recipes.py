"""Two recipes by their laws: parameters side by side, the compute multiplier, and where their frontiers cross.

The compute multiplier of the first over the second at compute C is how many times C the second needs,
each at its optimal N and D, for the loss that the first reaches with C; above 1 the first is better. It is
the "compute-equivalent gain" of arXiv:2312.07413, as a function of compute. C is 6 N D. Intervals are
percentiles over resamples of whole runs, each of one recipe with one of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit.comparison.compare import json_rows
from testbed.analysis.fit.comparison.curves import REACH, Curves, curves, span
from testbed.analysis.fit.diagnostics.finding import Finding
from testbed.analysis.fit.intervals import LEAST_RESAMPLES
from testbed.analysis.fit.result import Fit
from testbed.errors import ConfigError
from testbed.units import show_count

Array = NDArray[np.float64]

_LEVELS = 5  # losses, and budgets a decade, that the tables show


@dataclass(frozen=True)
class Crossing:
    """Where the frontiers cross: FLOPs with their interval (of the resamples that cross), and the share that does.

    `flops` is None where the estimates do not cross within three decades of the runs; `inside` says
    whether they do among the runs of both. `better` is the recipe with the lower loss beyond the crossing,
    or everywhere without one.
    """

    flops: float | None
    low: float | None
    high: float | None
    share: float
    inside: bool
    better: str


@dataclass(frozen=True, eq=False)
class RecipeComparison:
    """Two fits of one law, `names` what the recipes are called; `warnings` is why they may not be comparable."""

    first: Fit
    second: Fit
    names: tuple[str, str]
    level: float
    seed: int
    warnings: tuple[Finding, ...]

    @cached_property
    def curves(self) -> tuple[Curves, Curves]:
        """The compute-optimal frontiers of both fits."""
        return curves(self.first, self.second, self.seed)

    @property
    def common(self) -> tuple[float, float]:
        """Log FLOPs between which both have runs; the first is above the second where there are none."""
        (low, high), (other_low, other_high) = span(self.first), span(self.second)
        return max(low, other_low), min(high, other_high)

    @cached_property
    def parameters(self) -> pd.DataFrame:
        """A row for each parameter: both estimates, the second less the first, each with its interval."""
        bounds = [fit.conf_int(1 - self.level) for fit in (self.first, self.second)]
        rows = []
        for name in self.first.theta:
            draws = [_spread(fit, name) for fit in (self.first, self.second)]
            size = min(map(len, draws))
            order = np.random.default_rng(self.seed).permutation(len(draws[1]))[:size]
            apart = self.second.theta[name] - self.first.theta[name]
            low, high = self._ends(apart + draws[1][order] - draws[0][:size])
            row: dict[str, Any] = {"parameter": name}
            for fit, bound, label in zip((self.first, self.second), bounds, ("first", "second"), strict=True):
                row |= {
                    label: fit.theta[name],
                    f"{label}_low": bound["low"][name],
                    f"{label}_high": bound["high"][name],
                }
            rows.append(row | {"difference": apart, "difference_low": low, "difference_high": high})
        return pd.DataFrame(rows)

    def multiplier(self, flops: float) -> tuple[float, float, float]:
        """The compute multiplier of the first over the second at `flops` of the first, and its interval; inf: never."""
        mine, other = self.curves
        at = float(np.log(flops))
        return self._ratio(other.cost_of(mine.loss_at(at)) - at)

    @cached_property
    def by_compute(self) -> pd.DataFrame:
        """Along the compute of the first: both losses, the multiplier with its interval, and whether both have runs there."""
        (low, high), (inner, outer) = self.whole, self.common
        rows = []
        for at in np.linspace(low, high, max(3, round(_LEVELS * (high - low) / np.log(10)))):
            value, lower, upper = self.multiplier(float(np.exp(at)))
            losses = [float(np.exp(each.loss_at(float(at))[0])) for each in self.curves]
            rows.append((np.exp(at), *losses, value, lower, upper, bool(inner <= at <= outer)))
        columns = ["flops", "loss_first", "loss_second", "multiplier", "low", "high", "within_data"]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def by_loss(self) -> pd.DataFrame:
        """The FLOPs at which each recipe reaches some losses, and the multiplier with its interval."""
        rows = []
        for level in self._losses():
            costs = [each.cost_of(np.full(each.draws + 1, level)) for each in self.curves]
            value, low, high = self._ratio(costs[1] - costs[0])
            rows.append((np.exp(level), *(np.exp(cost[0]) for cost in costs), value, low, high))
        return pd.DataFrame(rows, columns=["loss", "flops_first", "flops_second", "multiplier", "low", "high"])

    @cached_property
    def crossing(self) -> Crossing:
        """Where the frontiers cross, nearest to the middle of the runs."""
        mine, other = self.curves
        middle = sum(self.whole) / 2
        gaps = mine.losses - other.losses
        at = np.array([_crossing(mine.compute, gap, middle) for gap in gaps])
        crossed = at[1:][np.isfinite(at[1:])]
        share = float(len(crossed) / max(len(at) - 1, 1))
        inside = bool(np.isfinite(at[0]) and self.common[0] <= at[0] <= self.common[1])
        beyond = gaps[0][np.isfinite(gaps[0])]
        better = self.names[0] if beyond.size and beyond[-1] < 0 else self.names[1]
        if not np.isfinite(at[0]):
            return Crossing(None, None, None, share, inside, better)
        low, high = self._ends(at[0] + self._inflation * (crossed - at[0])) if crossed.size else (np.nan, np.nan)
        return Crossing(float(np.exp(at[0])), _finite(np.exp(low)), _finite(np.exp(high)), share, inside, better)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON values; null where a number is not finite."""
        return {
            "names": list(self.names),
            "law": self.first.law.name,
            "level": self.level,
            "parameters": json_rows(self.parameters),
            "by_compute": json_rows(self.by_compute),
            "by_loss": json_rows(self.by_loss),
            "crossing": vars(self.crossing),
            "warnings": [finding.to_dict() for finding in self.warnings],
        }

    @property
    def whole(self) -> tuple[float, float]:
        """Log FLOPs of the smallest and of the largest run of both."""
        (low, high), (other_low, other_high) = span(self.first), span(self.second)
        return min(low, other_low), max(high, other_high)

    @property
    def _inflation(self) -> float:
        """The larger of both fits' corrections for the finite number of seeds (see `Rows.inflation`)."""
        return max(each.inflation for each in self.curves)

    def _losses(self) -> Array:
        """Log losses between those that the smallest and the largest budget of the runs reach, for both."""
        ends = [[float(each.loss_at(at)[0]) for at in self.whole] for each in self.curves]
        high, low = min(end[0] for end in ends), max(end[1] for end in ends)
        if not (np.isfinite(high) and np.isfinite(low)) or high <= low:
            return np.array([])
        return np.linspace(high, low, _LEVELS + 2)[1:-1]

    def _ratio(self, logs: Array) -> tuple[float, float, float]:
        """A ratio of computes and its interval from logarithms [1 + n_boot]."""
        with np.errstate(all="ignore"):
            drawn = logs[1:][~np.isnan(logs[1:])]
            both = np.isfinite(drawn) & np.isfinite(logs[0])
            widened = np.where(both, logs[0] + self._inflation * (drawn - logs[0]), drawn)
            low, high = self._ends(widened) if drawn.size and not np.isnan(logs[0]) else (np.nan, np.nan)
            return float(np.exp(logs[0])), float(np.exp(low)), float(np.exp(high))

    def _ends(self, draws: Array) -> tuple[float, float]:
        low, high = np.quantile(draws, [(1 - self.level) / 2, (1 + self.level) / 2], method="nearest")
        return float(low), float(high)


def compare_recipes(
    first: Fit,
    second: Fit,
    names: tuple[str, str] = ("A", "B"),
    level: float = 0.9,
    seed: int = 0,
    warnings: tuple[Finding, ...] = (),
) -> RecipeComparison:
    """Compare two recipes by fits of one law of loss by n and tokens, the first with the second.

    >>> from testbed.analysis.fit import fit_law
    >>> n, tokens = np.repeat([1e7, 3e7, 1e8, 3e8], 5), np.tile([1e9, 4e9, 2e10, 1e11, 1e12], 4)
    >>> noise = np.exp(0.002 * np.sin(7 * np.arange(20)))
    >>> losses = [(1.8 + 480 / n**0.35 + B / tokens**0.37) * noise for B in (2100, 2400)]
    >>> fits = [fit_law("hoffmann", {"n": n, "tokens": tokens, "loss": loss}, n_boot=40) for loss in losses]
    >>> compared = compare_recipes(*fits, names=("new", "old"))
    >>> value, low, high = compared.multiplier(1e20)  # compute that old needs for the loss of new, relative to new's
    >>> round(value, 2), compared.crossing.better
    (1.44, 'new')

    Raises:
        ConfigError: The laws differ or are not of loss by n and tokens, or a fit has too few resamples.
    """
    for fit in (first, second):
        if set(fit.law.columns) != {"n", "tokens"} or fit.law.response != "loss":
            raise ConfigError(
                f"diff: {fit.law.name} gives {fit.law.response} by {', '.join(fit.law.columns)}; accepted: a law of loss by "
                "n and tokens, such as hoffmann"
            )
        if len(fit.resamples) < LEAST_RESAMPLES:
            raise ConfigError(
                f"diff: a fit with {len(fit.resamples)} resamples has no intervals; accepted: at least {LEAST_RESAMPLES} "
                "(--bootstrap)"
            )
    if first.law.name != second.law.name:
        raise ConfigError(f"diff: fits of two laws, {first.law.name} and {second.law.name}; fit one law to both tables")
    return RecipeComparison(first, second, names, level, seed, warnings)


def sentences(compared: RecipeComparison) -> list[str]:
    """The multiplier at the largest compute that both have runs at, and the crossing."""
    first, second = compared.names
    low, high = compared.common
    at = high if high > low else compared.whole[1]
    value, lower, upper = compared.multiplier(float(np.exp(at)))
    where = f"At {show_count(float(np.exp(at)))} FLOPs" + ("" if high > low else ", where only one has runs,")
    said = [f"{where} {second} needs {_times(value)} the compute for {first}'s loss ({100 * compared.level:.0f} % interval "
            f"{_bare(lower)} to {_bare(upper)})."]  # fmt: skip
    return [*said, _crossing_sentence(compared)]


def _crossing_sentence(compared: RecipeComparison) -> str:
    found = compared.crossing
    ends = [float(np.exp(end)) for end in compared.whole]
    if found.flops is None:
        return (
            f"The frontiers do not cross from {10**-REACH:g} times the smallest run to {10**REACH:g} times the largest: "
            f"{found.better} is better throughout ({100 * found.share:.0f} % of the resamples cross somewhere)."
        )
    place = (
        "within the data of both"
        if found.inside
        else f"no crossing within the data of both; {found.flops / ends[1]:.2g} times the largest run"
        if found.flops > ends[1]
        else f"no crossing within the data of both; {found.flops / ends[0]:.2g} times the smallest run"
    )
    interval = "" if found.low is None or found.high is None else (
        f"{100 * compared.level:.0f} % interval {show_count(found.low)} to {show_count(found.high)}, "
    )  # fmt: skip
    return (
        f"The frontiers cross at {show_count(found.flops)} FLOPs ({interval}{place}; {100 * found.share:.0f} % of the "
        f"resamples cross); beyond it {found.better} is better."
    )


def _crossing(compute: Array, gap: Array, middle: float) -> float:
    """Where the gap [m] between two curves changes its sign, nearest to `middle`; nan where it does not."""
    sign = np.sign(gap)
    steps = np.flatnonzero(sign[1:] * sign[:-1] < 0)
    if steps.size == 0:
        return np.nan
    share = gap[steps] / (gap[steps] - gap[steps + 1])
    at = compute[steps] + share * (compute[steps + 1] - compute[steps])
    return float(at[np.argmin(np.abs(at - middle))])


def _spread(fit: Fit, name: str) -> Array:
    """Deviations [n_boot] of a parameter's resamples from its estimate, corrected for the finite number of seeds."""
    draws = fit.resamples[:, list(fit.theta).index(name)]
    return np.asarray(fit.rows.inflation * (draws - fit.theta[name]))


def _times(value: float) -> str:
    if np.isnan(value):
        return "an unknown multiple of"
    return f"{_bare(value)} times" if np.isfinite(value) and value > 0 else f"more than {10**REACH:g} times"


def _bare(value: float) -> str:
    if np.isnan(value):
        return "unknown"
    return f"{value:.3g}" if np.isfinite(value) else "beyond reach"


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
