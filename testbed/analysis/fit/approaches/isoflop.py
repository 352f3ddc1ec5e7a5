"""One IsoFLOP curve: losses of several sizes at one budget of FLOPs, and where it is lowest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from testbed.errors import ConfigError, TableError

Array = NDArray[np.float64]
Curve = Literal["parabola", "akima"]

_FEWEST = 3  # sizes that a curve with a minimum needs
_SMALL = 1e-300  # a loss that noise has made negative
_STEPS = 25  # of the search for a spline's minimum, between two sizes


@dataclass(frozen=True)
class IsoflopBudget:
    """Losses [sizes] of models trained with `flops`; log_n and log_tokens [sizes], each n once, ascending."""

    flops: float
    log_n: Array
    log_tokens: Array
    loss: Array

    @property
    def spacing(self) -> float:
        """Mean distance of neighbouring sizes in log n."""
        return float((self.log_n[-1] - self.log_n[0]) / max(len(self.log_n) - 1, 1))

    def optimum(self, curve: Curve, window: int | None) -> Optimum:
        """Where the curve is lowest, or why it has no minimum among the sizes (of the window)."""
        count, nowhere = len(self.loss), np.full(3, np.nan)
        if count < _FEWEST:
            return Optimum(self, curve, window, nowhere, f"{count} size{'s' * (count != 1)}; a curve needs {_FEWEST}")
        at = self.minima(self.loss[None], curve, window)[0]
        if np.isfinite(at[0]):
            return Optimum(self, curve, window, at)
        if curve == "akima":
            end = "smallest" if self._best == 0 else "largest"
            return Optimum(self, curve, window, nowhere, f"the loss is lowest at the {end} size")
        rows = self._near(window)
        bend, tilt, _ = np.polyfit(self.log_n[rows] - self.log_n[rows].mean(), self.loss[rows], 2)
        side = "below the smallest" if tilt > 0 else "above the largest"
        reason = "the parabola opens downwards" if bend <= 0 else f"the parabola's minimum lies {side} of its sizes"
        return Optimum(self, curve, window, nowhere, reason)

    def minima(self, losses: Array, curve: Curve, window: int | None) -> Array:
        """Log n, log tokens and loss [B, 3] of the lowest points for losses [B, sizes]; not numbers where there is none.

        The window stays where this budget's own losses put it.
        """
        log_n, loss = self._spline(losses) if curve == "akima" else self._vertex(losses, self._near(window))
        return np.stack([log_n, np.interp(log_n, self.log_n, self.log_tokens), loss], axis=1)

    def scatter(self, window: int | None) -> tuple[float, int]:
        """Sum of squares about the parabola, and its degrees of freedom."""
        if min(len(self.loss), window or len(self.loss)) <= _FEWEST:
            return 0.0, 0
        rows = self._near(window)
        x = self.log_n[rows] - self.log_n[rows].mean()
        left = self.loss[rows] - np.polyval(np.polyfit(x, self.loss[rows], 2), x)
        return float(left @ left), len(rows) - _FEWEST

    @property
    def _best(self) -> int:
        return int(np.argmin(self.loss))

    def _near(self, window: int | None) -> NDArray[np.intp]:
        """The sizes that the parabola goes through."""
        count = len(self.loss) if window is None else min(window, len(self.loss))
        first = min(max(self._best - count // 2, 0), len(self.loss) - count)
        return np.arange(first, first + count)

    def _vertex(self, losses: Array, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        x = self.log_n[rows]
        centre = x.mean()
        bend, tilt, level = np.linalg.pinv(np.vander(x - centre, 3)) @ losses[:, rows].T
        with np.errstate(all="ignore"):
            at = -tilt / (2 * bend)
            inside = (bend > 0) & (at + centre >= x[0]) & (at + centre <= x[-1])
            return np.where(inside, at + centre, np.nan), np.where(inside, level + at * tilt / 2, np.nan)

    def _spline(self, losses: Array) -> tuple[Array, Array]:
        grid = np.linspace(self.log_n[0], self.log_n[-1], _STEPS * (len(self.log_n) - 1))
        values = np.exp(
            scipy.interpolate.Akima1DInterpolator(self.log_n, np.log(np.maximum(losses, _SMALL)), axis=1)(grid)
        )
        at = np.argmin(values, axis=1)
        inside = (at > 0) & (at < len(grid) - 1)
        return np.where(inside, grid[at], np.nan), np.where(inside, values[np.arange(len(at)), at], np.nan)


@dataclass(frozen=True)
class Optimum:
    """Where a budget's curve is lowest: `at` [3] is log n, log tokens and loss, or `reason` says why there is none.

    `resamples` [n_boot, 3] are the same under noise, not numbers where the minimum leaves the sizes.
    """

    budget: IsoflopBudget
    curve: Curve
    window: int | None
    at: Array
    reason: str = ""
    resamples: Array = field(default_factory=lambda: np.empty((0, 3)))

    def noisy(self, noise: float, n_boot: int, rng: np.random.Generator) -> Optimum:
        """With resamples under `noise` on every loss; no optimum where half of them have none."""
        draws = noise * rng.normal(size=(n_boot, len(self.budget.loss)))
        if self.reason or not n_boot:
            return self
        resamples = self.budget.minima(self.budget.loss + draws, self.curve, self.window)
        lost = 1 - np.isfinite(resamples[:, 0]).mean()
        reason = f"the minimum leaves the sizes in {lost:.0%} of the resamples" if lost > 0.5 else ""
        return replace(self, resamples=resamples, reason=reason)

    @property
    def error(self) -> float:
        """Standard error of log n, the larger the fewer resamples have an optimum; not a number without any."""
        inside = np.isfinite(self.resamples[:, 0])
        return float(self.resamples[inside, 0].std() / inside.mean()) if inside.any() else np.nan


def budgets_of(
    points: pd.DataFrame, given: Sequence[float] | None, tolerance: float, where: str
) -> list[IsoflopBudget]:
    """Rows of columns flops, n, tokens, loss grouped by budget, within `tolerance` of it or of each other."""
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise ConfigError(f"tolerance: found {tolerance!r}; accepted: a relative difference above 0, such as 0.05")
    flops = points["flops"].to_numpy()
    if given is not None:
        return [
            _budget(budget, points[np.abs(np.log(flops / budget)) <= np.log1p(tolerance)])
            for budget in sorted(_checked(given))
        ]
    order = np.sort(np.unique(flops))
    firsts: list[float] = []
    for value in order:
        if not firsts or value > firsts[-1] * (1 + tolerance):
            firsts.append(float(value))
    group = np.searchsorted(firsts, flops, side="right")
    if len(firsts) == len(points):
        raise TableError(
            f"{where}: all {len(points)} rows have FLOPs of their own, so there are no IsoFLOP curves; "
            "give budgets= with the tolerance that their rows keep to, or fit a law instead"
        )
    return [_budget(float(np.exp(np.log(rows["flops"]).mean())), rows) for _, rows in points.groupby(group, sort=True)]


def pooled_noise(budgets: Sequence[IsoflopBudget], window: int | None, where: str) -> float:
    """Standard deviation of one loss in nats/token, from the scatter about all budgets' parabolas."""
    parts = [budget.scatter(window) for budget in budgets]
    freedom = sum(count for _, count in parts)
    if freedom == 0:
        raise TableError(
            f"{where}: no budget has more sizes than a parabola's three, so their scatter says nothing of the noise; "
            "give noise=, the spread of a loss between seeds in nats/token, or n_boot=0"
        )
    return float(np.sqrt(sum(squares for squares, _ in parts) / freedom))


def _checked(given: Sequence[float]) -> list[float]:
    values = [float(value) for value in given]
    wrong = [value for value in values if not (np.isfinite(value) and value > 0)]
    if wrong or not values:
        raise ConfigError(f"budgets: found {wrong[0] if wrong else 'none'}; accepted: FLOPs above 0")
    return values


def _budget(flops: float, rows: pd.DataFrame) -> IsoflopBudget:
    """The lowest loss of each n."""
    best = rows.sort_values("loss", kind="stable").drop_duplicates("n").sort_values("n")
    log_n, log_tokens = (np.log(best[name].to_numpy()) for name in ("n", "tokens"))
    return IsoflopBudget(flops, log_n, log_tokens, best["loss"].to_numpy())
