"""The two older ways to the compute-optimal model: the envelope of training curves, and IsoFLOP parabolas.

Approaches 1 and 2 of Hoffmann et al., arXiv:2203.15556, sections 3.1 and 3.2: both find the best model
at each of some budgets C, then draw lines N* = k C^a and D* = l C^b in logarithms. Approach 3 is
`fit_law` and the fit's frontier. Neither of these fits a loss, so neither predicts one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit.approaches.isoflop import Curve, Optimum, budgets_of, pooled_noise
from testbed.analysis.fit.approaches.power_law import PowerLaw, lines
from testbed.errors import ConfigError, TableError
from testbed.points import TableLike, as_table, check_sizes, fit_columns, map_columns

Array = NDArray[np.float64]

_FEWEST = 3  # budgets, curves, sizes: a line through two has no error to show
_CURVE = 5  # rows of a run that make a training curve


@dataclass(frozen=True, eq=False)
class Allocation:
    """Compute-optimal parameters and tokens as power laws of FLOPs.

    `optima` has a row a budget that the lines go through (flops, n, tokens, loss, and of approach 1 the
    run, of approach 2 the number of sizes and the standard error of log n); `rejected` has those that
    show no optimum, with the reason.
    """

    n: PowerLaw
    tokens: PowerLaw
    optima: pd.DataFrame
    rejected: pd.DataFrame


def approach_1(
    data: TableLike,
    *,
    envelope: Literal["pointwise", "hull"] = "pointwise",
    budgets: int = 1500,
    columns: Mapping[str, str] | None = None,
    n_boot: int = 400,
    seed: int = 0,
    where: str = "the table",
) -> Allocation:
    """The lower envelope of loss over training curves against FLOPs, arXiv:2203.15556, section 3.1.

    Needs n, tokens, loss, and run for whose curve a row is of (else one n is one curve), and three curves of
    five rows or more ("pointwise"), on an envelope of three sizes: finished runs are no curves. flops is
    6 n tokens where the table has none. "pointwise" takes the curve of lowest loss, interpolated in
    logarithms, at each of `budgets` log-spaced FLOP counts; "hull" the points at the corners of the lower
    convex hull of log loss over log FLOPs, as arXiv:2502.06857 does.

    An envelope follows the luckiest points, and at both ends the smallest and the largest model for want
    of others: on curves of a known law with .2 % noise the exponent of N came out .01 (pointwise) and .02
    (hull) too low. Intervals resample runs, and are reflected about the estimate, since an envelope
    without some of the runs errs further in that direction; those of "hull" are still too short.
    """
    if envelope not in ("pointwise", "hull"):
        raise ConfigError(f"envelope: found {envelope!r}; accepted: pointwise, hull")
    if budgets < 2:
        raise ConfigError(f"budgets: found {budgets!r}; accepted: 2 or more")
    runs, names = _runs(data, columns, where)
    if envelope == "pointwise":
        _check_curves(runs, where)
    lowest = _pointwise(runs, budgets) if envelope == "pointwise" else _hull(runs)
    at, found = lowest(np.arange(len(runs)))
    rng = np.random.default_rng(seed)
    drawn = [lowest(np.unique(rng.integers(0, len(runs), len(runs))))[1] for _ in range(n_boot)]
    by_law = [np.array([lines(d[:, 0], d[:, k]) for d in drawn]).reshape(-1, 2) for k in (1, 2)]
    n, tokens = (PowerLaw.through(found[:, 0], found[:, k], by_law[k - 1]).reflected() for k in (1, 2))
    if not np.isfinite(n.exponent):
        raise TableError(
            f"{where}: the envelope has a single point, and a line needs two; it takes curves of several n"
        )
    sizes = len(np.unique(found[:, 1]))
    if envelope == "pointwise" and sizes < _FEWEST:
        raise TableError(
            f"{where}: the envelope of the {len(runs)} curves is of {sizes} size{'s' * (sizes > 1)}, and a line needs {_FEWEST}: "
            "the others are nowhere the best; take curves whose losses cross, or fit a law: testbed fit TABLE"
        )
    optima = pd.DataFrame(np.exp(found), columns=["flops", "n", "tokens", "loss"]).assign(run=names[at])
    return Allocation(n, tokens, optima, _rejections())


def approach_2(
    data: TableLike,
    *,
    budgets: Sequence[float] | None = None,
    tolerance: float = 0.05,
    curve: Curve = "parabola",
    window: int | None = 5,
    noise: float | None = None,
    weighted: bool = False,
    by_6nd: bool = False,
    columns: Mapping[str, str] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    where: str = "the table",
) -> Allocation:
    """IsoFLOP curves, arXiv:2203.15556, section 3.2: at each budget the n of lowest loss, then a line in log C.

    Needs n, tokens, loss; flops is 6 n tokens where the table has none. Rows whose FLOPs differ by less
    than `tolerance` (relative) make a budget, or those that near to one of the given `budgets`; of rows of
    one n the lowest loss counts. `curve` is a parabola in log n through the `window` sizes around the
    lowest loss (None: through all, which tilts it where the curve is not one), or "akima", the lowest
    point of the interpolating spline, as arXiv:2406.19146 does.

    Intervals come from adding `noise` to every loss (nats/token, the spread between seeds; estimated from
    the scatter about the parabolas where None). `weighted` weighs budgets by how well they fix their
    optimum, none better than a third of the spacing of its sizes (as arXiv:2406.19146). A budget whose
    curve has no minimum among its sizes is listed under `rejected`, with the reason. With `by_6nd` the lines are over
    6 n tokens of the optima, whatever the table counts as FLOPs, as those of a law's frontier are.
    """
    if curve not in ("parabola", "akima"):
        raise ConfigError(f"curve: found {curve!r}; accepted: parabola, akima")
    if window is not None and window < 3:
        raise ConfigError(f"window: found {window!r}; accepted: 3 sizes or more, or None for all")
    if noise is not None and not (np.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise: found {noise!r}; accepted: a spread of losses in nats/token, 0 or more")
    if weighted and not n_boot:
        raise ConfigError(
            "weighted: found True with n_boot=0; accepted: with resamples, which say how sure a budget is"
        )
    points, _ = _points(data, columns, where)
    groups = budgets_of(points, budgets, tolerance, where)
    if n_boot and noise is None:
        noise = pooled_noise(groups, window, where)
    rng = np.random.default_rng(seed)
    found = [budget.optimum(curve, window).noisy(noise or 0.0, n_boot, rng) for budget in groups]
    return _through([f for f in found if not f.reason], [f for f in found if f.reason], weighted, by_6nd, where)


def _through(kept: list[Optimum], rejected: list[Optimum], weighted: bool, by_6nd: bool, where: str) -> Allocation:
    """The lines through the optima that are kept, and those of their resamples."""
    if len(kept) < _FEWEST:
        reasons = "; ".join(f"{f.budget.flops:.3g} FLOPs: {f.reason}" for f in rejected[:_FEWEST])
        more = f" ({reasons}{'; …' if len(rejected) > _FEWEST else ''})" if reasons else ""
        raise TableError(
            f"{where}: {len(kept)} of {len(kept) + len(rejected)} budgets show an optimum, and a line needs {_FEWEST}{more}; "
            "add sizes on both sides of each minimum, or give budgets= and tolerance="
        )
    flops, sizes = np.array([f.budget.flops for f in kept]), [len(f.budget.loss) for f in kept]
    at, error = np.array([f.at for f in kept]), np.array([f.error for f in kept])
    spacing = np.array([f.budget.spacing for f in kept])
    weights = 1 / np.maximum(error, spacing / 3) ** 2 if weighted else np.ones(len(kept))
    x, resampled = np.log(flops), np.array([f.resamples for f in kept])  # [budgets, n_boot, 3]
    drawn_x = x
    if by_6nd:
        x, drawn_x = np.log(6) + at[:, 0] + at[:, 1], np.log(6) + (resampled[:, :, 0] + resampled[:, :, 1]).T
    n, tokens = (PowerLaw.through(x, at[:, k], lines(drawn_x, resampled[:, :, k].T, weights), weights) for k in (0, 1))
    optima = {"flops": flops, "n": np.exp(at[:, 0]), "tokens": np.exp(at[:, 1]), "loss": at[:, 2]}
    return Allocation(n, tokens, pd.DataFrame({**optima, "sizes": sizes, "log_n_error": error}), _rejections(rejected))


def _points(data: TableLike, columns: Mapping[str, str] | None, where: str) -> tuple[pd.DataFrame, bool]:
    """Columns flops, n, tokens, loss, run of the table, and whether it names runs."""
    table = as_table(data, where)
    mapping = map_columns(table, ("n", "tokens", "loss", "flops"), columns or {}, where)
    points = fit_columns(table, mapping, where)
    check_sizes(table, points, mapping, where)
    return points, "run" in mapping


def _runs(data: TableLike, columns: Mapping[str, str] | None, where: str) -> tuple[list[Array], NDArray[Any]]:
    """Log flops, log n, log tokens, log loss [rows, 4] of each run, by flops, and the runs' names."""
    points, named = _points(data, columns, where)
    numbers, names = pd.factorize(points["run"] if named else points["n"], sort=True)
    mixed = points.groupby(numbers)["n"].nunique() > 1
    if mixed.any():
        raise TableError(
            f"{where}: run {names[int(mixed.argmax())]} has rows of several n, and a training curve has one; "
            "name the column that tells the models apart as the run"
        )
    order = np.lexsort((points["flops"], numbers))
    logs = np.log(points[["flops", "n", "tokens", "loss"]].to_numpy())[order]
    return np.split(logs, np.flatnonzero(np.diff(numbers[order])) + 1), np.asarray(names)


def _check_curves(runs: list[Array], where: str) -> None:
    """Refuse tables without training curves; TableError says which approach suits them."""
    lengths = [len(np.unique(run[:, 0])) for run in runs]
    if max(lengths) == 1:
        raise TableError(
            f"{where}: no run has two rows, so there are no training curves; name the column of the runs with --run, fit a law "
            'with testbed fit TABLE, or take the envelope of the points, envelope="hull"'
        )
    curves = sum(length >= _CURVE for length in lengths)
    if curves < _FEWEST:
        raise TableError(
            f"{where}: {curves} of {len(runs)} runs have {_CURVE} rows or more, and the envelope needs training curves of "
            f"{_FEWEST}: finished runs are none; name the column of the runs with --run if they are checkpoints, or fit a law: "
            "testbed fit TABLE"
        )


Lowest = Callable[[NDArray[np.intp]], tuple[NDArray[np.intp], Array]]


def _pointwise(runs: list[Array], budgets: int) -> Lowest:
    """A function of some runs' numbers: the best run at each budget, and its row (log flops, n, tokens, loss) there."""
    curves = [curve for curve in runs if len(curve) > 1]
    grid = np.linspace(min(c[0, 0] for c in curves), max(c[-1, 0] for c in curves), budgets)
    rows = np.full((len(runs), budgets, 4), np.inf)
    for k, c in enumerate(runs):
        inside = (grid >= c[0, 0] - 1e-12) & (grid <= c[-1, 0] + 1e-12)
        for j in range(4):
            rows[k, inside, j] = np.interp(grid[inside], c[:, 0], c[:, j])

    def lowest(some: NDArray[np.intp]) -> tuple[NDArray[np.intp], Array]:
        best = some[np.argmin(rows[some, :, 3], axis=0)]
        found = rows[best, np.arange(budgets)]
        seen = np.isfinite(found[:, 3])
        return best[seen], found[seen]

    return lowest


def _hull(runs: list[Array]) -> Lowest:
    """A function of some runs' numbers: the runs and rows at the falling corners of their lower convex hull."""
    corners = [run[_corners(run)] for run in runs]  # no other point can be a corner of several runs' hull

    def lowest(some: NDArray[np.intp]) -> tuple[NDArray[np.intp], Array]:
        run = np.repeat(some, [len(corners[k]) for k in some])
        rows = np.concatenate([corners[k] for k in some])
        of_all = _corners(rows)
        falling = of_all[: int(np.argmin(rows[of_all, 3])) + 1]
        return run[falling], rows[falling]

    return lowest


def _corners(rows: Array) -> NDArray[np.intp]:
    """Rows at the corners of the lower convex hull in log flops (column 0) and log loss (column 3), by flops."""
    corners: list[int] = []
    for i in np.lexsort((rows[:, 3], rows[:, 0])).tolist():
        while len(corners) > 1 and not _turns_up(rows[corners[-2]], rows[corners[-1]], rows[i]):
            corners.pop()
        corners.append(i)
    return np.array(corners, np.intp)


def _turns_up(a: Array, b: Array, c: Array) -> bool:
    """Whether b lies below the line from a to c."""
    return bool((b[3] - a[3]) * (c[0] - a[0]) < (c[3] - a[3]) * (b[0] - a[0]))


def _rejections(rejected: Sequence[Optimum] = ()) -> pd.DataFrame:
    rows = [(f.budget.flops, len(f.budget.loss), f.reason) for f in rejected]
    return pd.DataFrame(rows, columns=["flops", "sizes", "reason"])
