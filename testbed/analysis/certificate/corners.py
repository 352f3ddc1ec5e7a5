"""The best learning rate at each corner of a grid, from losses at a few multiples of the rule's rate.

A corner is a width, a horizon and a batch; a bracket is its runs at several multiples. The curve through their losses is
fitted in `valley`.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd

from testbed.analysis.certificate.valley import Points, Valley, excesses, fit_valleys
from testbed.errors import TableError
from testbed.records import Record

Status = Literal["inside", "below", "above", "cliff", "unclear"]

_DRAWS = 2000
_LEAST_FACTORS = 3  # at which no run diverged


class OpenInterval(Record):
    """An interval with its nominal level; None is an open end."""

    low: float | None
    high: float | None
    level: float

    def holds(self, value: float) -> bool:
        """Whether the value lies in the interval."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


class Corner(Record):
    """One bracket: a width, a horizon and a batch, trained at several multiples of the rule's learning rate.

    `factors` are the multiples and `losses` the geometric means over seeds in nats/token, None where a run diverged.
    `optimum` is the best multiple: log loss = log `lowest` + `curvature` v^2 + `skew` v^3, with v the log of a
    multiple over the optimum, fitted in `window` (multiples from, to); these are None unless `status` is "inside".
    `excess` is how far log loss at the rule's own rate lies above the lowest (at least so far, where the optimum
    lies beyond the bracket). Status: "inside" the bracket; "below" or "above" it; "cliff" where the loss falls
    until runs diverge; "unclear" where it does not rise on both sides.
    """

    width: int
    n_params_non_embedding: int
    tokens: int
    batch_tokens: int
    seeds: int
    factors: tuple[float, ...]
    losses: tuple[float | None, ...]
    status: Status
    window: tuple[float, float]
    optimum: float | None
    interval: OpenInterval
    curvature: float | None
    skew: float | None
    lowest: float
    excess: float
    excess_interval: OpenInterval

    @property
    def rule_diverges(self) -> bool:
        """Whether a run diverged at the rule's own rate."""
        return any(factor == 1.0 and loss is None for factor, loss in zip(self.factors, self.losses, strict=True))


def judge_corners(table: pd.DataFrame, level: float, seed: int = 0) -> list[tuple[Corner, Valley]]:
    """Each corner of a table of brackets, with the curve of its losses; ordered by batch, width and tokens.

    `table` has a row for each run and horizon, with columns width, n_params_non_embedding, tokens, batch_tokens, factor,
    init_seed, data_seed and loss in nats/token (nan where the run diverged). `level` is that of the intervals.

    Raises:
        TableError: Runs diverged at so many multiples that no curve can be fitted to the others.
    """
    corners = [group for _, group in table.groupby(["batch_tokens", "width", "tokens"], sort=True)]
    valleys = fit_valleys([_points(corner) for corner in corners])
    rng = np.random.default_rng(seed)
    return [(_judged(corner, valley, level, rng), valley) for corner, valley in zip(corners, valleys, strict=True)]


def _points(corner: pd.DataFrame) -> Points:
    """The losses to fit: those at multiples at which no run diverged."""
    failed = corner["factor"].isin(corner.loc[corner["loss"].isna(), "factor"])
    finite = corner[~failed]
    if finite["factor"].nunique() < _LEAST_FACTORS:
        width, tokens, all_factors = corner["width"].iloc[0], corner["tokens"].iloc[0], corner["factor"].nunique()
        raise TableError(
            f"width {width}, {tokens} tokens: runs diverged at {all_factors - finite['factor'].nunique()} of {all_factors} "
            f"multiples of the rule's rate, and {_LEAST_FACTORS} others are needed; lower train.lr, or add lower --factors"
        )
    seeds = np.asarray(finite.groupby(["init_seed", "data_seed"]).ngroup(), np.intp)
    return np.log(finite["factor"].to_numpy(float)), np.log(finite["loss"].to_numpy(float)), seeds


def _judged(table: pd.DataFrame, valley: Valley, level: float, rng: np.random.Generator) -> Corner:
    logs = np.log(table["loss"]).groupby(table["factor"]).agg(lambda values: values.mean(skipna=False))
    means = np.exp(logs)
    status = _status(valley, means)
    first = table.iloc[0]
    inside = status == "inside"
    found = _inside(valley, level, rng) if inside else _beyond(status, means, level)
    return Corner(
        width=int(first["width"]),
        n_params_non_embedding=int(first["n_params_non_embedding"]),
        tokens=int(first["tokens"]),
        batch_tokens=int(first["batch_tokens"]),
        seeds=len(table[["init_seed", "data_seed"]].drop_duplicates()),
        factors=tuple(float(f) for f in means.index),
        losses=tuple(None if math.isnan(loss) else float(loss) for loss in means),
        status=status,
        window=(math.exp(valley.low), math.exp(valley.high)),
        curvature=valley.curvature if inside else None,
        skew=valley.skew if inside else None,
        **found,
    )


def _status(valley: Valley, means: pd.Series[float]) -> Status:
    finite = means.dropna()
    factors = finite.index.to_numpy(float)
    if math.log(factors[0]) <= valley.vertex <= math.log(factors[-1]):
        return "inside"
    lowest = int(np.argmin(finite.to_numpy()))
    if lowest == 0:
        return "below"
    if lowest == len(finite) - 1:
        return "cliff" if factors[-1] < float(means.index[-1]) else "above"
    return "unclear"


def _inside(valley: Valley, level: float, rng: np.random.Generator) -> dict[str, object]:
    low, high = valley.vertex_range(level)
    spread = excesses(valley.draws(_DRAWS, rng))
    ends = np.nanquantile(spread, [(1 - level) / 2, (1 + level) / 2])
    right = (low is None or low <= 0) and (high is None or high >= 0)  # the rule may be at the optimum
    return {
        "optimum": math.exp(valley.vertex),
        "interval": OpenInterval(low=_exp(low), high=_exp(high), level=level),
        "lowest": math.exp(valley.level - valley.excess),
        "excess": valley.excess,
        "excess_interval": OpenInterval(low=0.0 if right else float(ends[0]), high=float(ends[1]), level=level),
    }


def _beyond(status: Status, means: pd.Series[float], level: float) -> dict[str, object]:
    """The fields of a corner whose curve has no lowest point: on which side the optimum lies, and the least excess."""
    finite = means.dropna()
    factors, lowest = finite.index.to_numpy(float), int(np.argmin(finite.to_numpy()))
    low, high = None, None
    if status == "below":
        high = float(factors[1])
    if status in ("above", "cliff"):
        low = float(factors[-2])
    if status == "cliff":
        high = float(means.index[len(finite)])
    return {
        "optimum": None,
        "interval": OpenInterval(low=low, high=high, level=level),
        "lowest": float(finite.iloc[lowest]),
        "excess": math.log(float(finite.get(1.0, finite.iloc[lowest])) / float(finite.iloc[lowest])),
        "excess_interval": OpenInterval(low=None, high=None, level=level),
    }


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)
