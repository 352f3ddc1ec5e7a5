"""The compute-optimal size and tokens of a fitted law, and what a loss would cost.

For any law of N and D, found numerically on the law itself; intervals are percentiles over the resamples,
each with an optimum of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.fit.diagnostics.ladder import refuse_ladder
from testbed.analysis.fit.estimate import Estimate
from testbed.analysis.fit.intervals import resamples_hold
from testbed.errors import ConfigError

Array = NDArray[np.float64]

_RATIOS = (1e-8, 1e10)  # tokens per parameter between which an optimum is searched
_ZOOMS, _GRID = 14, 65
_REACH = 40.0  # natural logs beyond the fitted range within which a loss is searched


def frontier(fit: Estimate, flops: ArrayLike, level: float = 0.9, inference_tokens: float = 0.0) -> pd.DataFrame:
    """The N, D that reach the lowest loss for training FLOPs 6 N D (arXiv:2203.15556, section 3.3), one row a budget.

    Columns flops, n, tokens, tokens_per_param, loss, each but the first with _low and _high (nan where fewer than
    half of the resamples converged), and gap_decades, the compute beyond the largest fitted run in decades. With
    `inference_tokens` T the budget also pays 2 N T for serving them (arXiv:2401.00448, eq. 1). Where the
    law has no optimum within 1e-8 to 1e10 tokens a parameter the row is nan; resamples without one are
    left out of the interval.

    Raises:
        ConfigError: The law is not of loss by n and tokens, or a budget is not above 0.
        TableError: All rows lie on one line of N and D, such as D = 20 N, so there is no optimum to be known.
    """
    _need_sizes(fit, "a frontier")
    refuse_ladder(fit, "frontier")
    budgets = np.atleast_1d(np.asarray(flops, np.float64))
    if not (np.isfinite(budgets) & (budgets > 0)).all() or inference_tokens < 0:
        raise ConfigError(f"flops: found {budgets.min():g}; accepted: finite numbers above 0")
    rows = pd.DataFrame([_optimum(fit, budget, level, inference_tokens) for budget in budgets])
    largest = float((6 * fit.rows.columns["n"] * fit.rows.columns["tokens"]).max())
    return rows.assign(gap_decades=np.maximum(np.log10(6 * rows["n"] * rows["tokens"] / largest), 0.0))


def solve(fit: Estimate, response: float, given: Mapping[str, float], level: float = 0.9) -> pd.Series[float]:
    """The value of the one column that is not given at which the law reaches a response; of FLOPs, where none is given.

    Fields value, low, high and reached, the share of resamples that reach it; infinite where the law
    never does. The response has to be monotone in the column. FLOPs are 6 N D on the compute-optimal frontier.

    Raises:
        ConfigError: More than one column is missing (and not exactly n and tokens), or one is unknown.
        TableError: All rows lie on one line of N and D, such as D = 20 N, so neither's effect is known.
    """
    missing = [name for name in fit.law.columns if name not in given]
    unknown = sorted(set(given) - set(fit.law.columns))
    if unknown or (len(missing) != 1 and not (set(missing) == {"n", "tokens"} == set(fit.law.columns))):
        raise ConfigError(
            f"solve: {fit.law.name} has columns {', '.join(fit.law.columns)}, given: {', '.join(given) or 'none'}; "
            "accepted: all but one"
        )
    refuse_ladder(fit, "solve")
    thetas = _thetas(fit)
    if len(missing) == 2:
        costs = _frontier_cost(fit, thetas, response)
        name = "flops"
    else:
        name = missing[0]
        costs = _column_cost(fit, thetas, response, name, given)
    low, high = _ends(fit, costs, level)
    reached = float(np.isfinite(costs[1:]).mean()) if len(costs) > 1 else np.nan
    return pd.Series({"value": costs[0], "low": low, "high": high, "reached": reached}, name=name)


def _optimum(fit: Estimate, flops: float, level: float, inference_tokens: float) -> dict[str, float]:
    n, tokens, loss = best_sizes(fit, _thetas(fit), flops, inference_tokens)
    row: dict[str, float] = {"flops": flops}
    for name, values in (("n", n), ("tokens", tokens), ("tokens_per_param", tokens / n), ("loss", loss)):
        low, high = _ends(fit, values, level)
        row |= {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}
    return row


def best_sizes(
    fit: Estimate, thetas: Array, flops: float | Array, inference_tokens: float = 0.0
) -> tuple[Array, Array, Array]:
    """N, D and the loss at the optimum of each row of parameters [B, p] for its FLOPs; nan where there is none.

    By zooming: the lowest point of a grid in log N, then a finer grid around it.
    """
    budget = np.broadcast_to(np.asarray(flops, np.float64), len(thetas))[:, None]
    low = np.log(np.sqrt(budget / 6 / _RATIOS[1]))
    high = np.log(np.sqrt(budget / 6 / _RATIOS[0]))
    if inference_tokens:
        high = np.minimum(high, np.log(budget / (2 * inference_tokens)) - 1e-6)
    edges = (low, high)
    share = np.linspace(0, 1, _GRID)
    for _ in range(_ZOOMS):
        at = low + (high - low) * share
        loss = _losses(fit, thetas, np.exp(at), budget, inference_tokens)
        best = np.argmin(np.where(np.isfinite(loss), loss, np.inf), axis=1)[:, None]
        step = (high - low) / (_GRID - 1)
        centre = np.take_along_axis(at, best, axis=1)
        low, high = np.maximum(centre - step, edges[0]), np.minimum(centre + step, edges[1])
    found = np.exp(centre)
    loss = _losses(fit, thetas, found, budget, inference_tokens)
    inside = (centre > edges[0] + 1e-6) & (centre < edges[1] - 1e-6) & np.isfinite(loss)
    tokens = (budget - 2 * found * inference_tokens) / (6 * found)
    return tuple(np.where(inside, value, np.nan)[:, 0] for value in (found, tokens, loss))  # type: ignore[return-value]


def _losses(fit: Estimate, thetas: Array, n: Array, budget: Array, inference_tokens: float) -> Array:
    """Loss [B, m] of each row of parameters at sizes [B, m]."""
    tokens = np.maximum((budget - 2 * n * inference_tokens) / (6 * n), 1e-300)
    named = {name: thetas[:, k : k + 1] for k, name in enumerate(fit.theta)}
    with np.errstate(all="ignore"):
        return np.asarray(fit.law.value(named, fit.law.prepare({"n": n, "tokens": tokens})), np.float64)


def _column_cost(fit: Estimate, thetas: Array, response: float, name: str, given: Mapping[str, float]) -> Array:
    """The value of one column [B] at which each row of parameters gives the response; inf where it never does."""
    fitted = np.log(fit.rows.columns[name].astype(np.float64))

    def excess(at: Array) -> Array:
        columns = {key: np.exp(at) if key == name else np.full_like(at, given[key]) for key in fit.law.columns}
        named = {key: thetas[:, k : k + 1] for k, key in enumerate(fit.theta)}
        with np.errstate(all="ignore"):
            return np.asarray(fit.law.value(named, fit.law.prepare(columns)), np.float64) - response

    return _roots(excess, len(thetas), fitted.min(), fitted.max())


def _frontier_cost(fit: Estimate, thetas: Array, response: float) -> Array:
    """The training FLOPs [B] at which the frontier of each row of parameters reaches the loss."""
    fitted = np.log(6 * fit.rows.columns["n"] * fit.rows.columns["tokens"])

    def excess(at: Array) -> Array:
        return (best_sizes(fit, thetas, np.exp(at[:, 0]))[2] - response)[:, None]

    return _roots(excess, len(thetas), fitted.min(), fitted.max())


def _roots(excess: Callable[[Array], Array], count: int, low: float, high: float) -> Array:
    """The exponential of the root [B] of `excess` of a logarithm [B, 1], by bisection; inf where there is none."""
    lower, upper = np.full((count, 1), low - _REACH), np.full((count, 1), high + _REACH)
    below, above = excess(lower), excess(upper)
    crossing = (np.sign(below) != np.sign(above)) & np.isfinite(below) & np.isfinite(above)
    for _ in range(60):
        middle = (lower + upper) / 2
        same = np.sign(excess(middle)) == np.sign(below)
        lower, upper = np.where(same, middle, lower), np.where(same, upper, middle)
    return np.where(crossing, np.exp((lower + upper) / 2), np.inf)[:, 0]


def _thetas(fit: Estimate) -> Array:
    """The parameters and below them those of the resamples [1 + n_boot, p]."""
    return np.concatenate([np.array([list(fit.theta.values())]), fit.resamples])


def _ends(fit: Estimate, values: Array, level: float) -> tuple[float, float]:
    """Percentiles of values above 0 [1 + n_boot], their spread about the first inflated for the finite number of seeds."""
    drawn = values[1:][~np.isnan(values[1:])]
    if drawn.size == 0 or not np.isfinite(values[0]) or not resamples_hold(fit):
        return np.nan, np.nan
    with np.errstate(all="ignore"):
        widened = values[0] * (drawn / values[0]) ** fit.rows.inflation
    low, high = np.quantile(widened, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return float(low), float(high)


def _need_sizes(fit: Estimate, what: str) -> None:
    if set(fit.law.columns) != {"n", "tokens"} or fit.law.response != "loss":
        raise ConfigError(
            f"{what} needs a law of loss by n and tokens; {fit.law.name} gives {fit.law.response} by "
            f"{', '.join(fit.law.columns)}"
        )
