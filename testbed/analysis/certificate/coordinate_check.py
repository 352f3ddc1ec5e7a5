"""Whether a learning-rate rule carries over to other widths: the judgement of a coordinate check.

With a right rule every activation's change over the first steps is as large at one width as at another
(arXiv:2203.03466, section 3.3 and appendix D.1); its logarithm then has slope 0 in the logarithm of width.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from testbed.records import Record

TOLERANCE = 0.3  # a right rule stayed within .2 in the quick study's shapes, the standard one was at 1.3 and more
_OUTSIDE = ("logits",)  # made by the head, which rules for hidden matrices do not govern

Trend = Literal["steady", "grows", "vanishes"]


class Coordinate(Record):
    """One kind of activation: the slopes of its size before training and of its change against width, in logarithms.

    `error` is the standard error of the change's slope; `changes` are geometric means over seeds at the
    last step, one a width.
    """

    kind: str
    size_slope: float
    change_slope: float
    error: float
    changes: tuple[float, ...]
    trend: Trend


class Transfer(Record):
    """A coordinate check: its widths, seeds and steps, and every kind of activation."""

    widths: tuple[int, ...]
    seeds: int
    steps: int
    tolerance: float
    kinds: tuple[Coordinate, ...]

    @property
    def hidden_steady(self) -> bool:
        """Whether everything up to the head changes alike at every width."""
        return all(kind.trend == "steady" for kind in self.kinds if kind.kind not in _OUTSIDE)

    @property
    def moving(self) -> tuple[Coordinate, ...]:
        """The kinds that grow or vanish with width."""
        return tuple(kind for kind in self.kinds if kind.trend != "steady")


def judge_coordinates(table: pd.DataFrame, tolerance: float = TOLERANCE) -> Transfer:
    """The judgement of a table with columns width, init_seed, step, kind, size and change, of two widths or more."""
    last = int(table["step"].max())
    kinds = []
    for kind, rows in table.groupby("kind", sort=False):
        before, after = (
            np.log(part.groupby("width")[name].agg(lambda v: np.exp(np.log(np.maximum(v, 1e-300)).mean())))
            for part, name in ((rows[rows["step"] == 0], "size"), (rows[rows["step"] == last], "change"))
        )
        widths = np.log(after.index.to_numpy(float))
        away = widths - widths.mean()
        slope = float(away @ after) / float(away @ away)
        rest = after.to_numpy() - after.mean() - slope * away
        error = np.sqrt(float(rest @ rest) / max(len(widths) - 2, 1) / float(away @ away))
        kinds.append(
            Coordinate(
                kind=str(kind),
                size_slope=float(away @ before) / float(away @ away),
                change_slope=slope,
                error=float(error),
                changes=tuple(float(change) for change in np.exp(after)),
                trend="steady" if abs(slope) <= tolerance else "grows" if slope > 0 else "vanishes",
            )
        )
    return Transfer(
        widths=tuple(int(width) for width in sorted(table["width"].unique())),
        seeds=table["init_seed"].nunique(),
        steps=last,
        tolerance=tolerance,
        kinds=tuple(kinds),
    )
