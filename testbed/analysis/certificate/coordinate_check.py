"""Whether a learning-rate rule transfers to other widths, judged by a coordinate check.

Under a right rule each activation changes by as much over the first steps at one width as at another (arXiv:2203.03466,
section 3.3 and appendix D.1), so the log of its change has slope 0 in the log of width.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from testbed.records import Record

TOLERANCE = (
    0.3  # of a slope: the right rule stayed within 0.2 in the quick study's shapes, the standard one reached 1.3
)
_NOT_HIDDEN = ("logits",)  # made by the head, whose rate a rule for hidden matrices does not set

WidthTrend = Literal["steady", "grows", "vanishes"]


class Coordinate(Record):
    """One kind of activation against width: log-log slopes of its size before training, and of its change by training.

    `error` is the standard error of `change_slope`; `changes` are the geometric means over seeds at the last step, one
    for each width.
    """

    kind: str
    size_slope: float
    change_slope: float
    error: float
    changes: tuple[float, ...]
    trend: WidthTrend


class Transfer(Record):
    """A coordinate check: its widths, number of seeds and steps, and the findings for each kind of activation."""

    widths: tuple[int, ...]
    seeds: int
    steps: int
    tolerance: float
    kinds: tuple[Coordinate, ...]

    @property
    def hidden_steady(self) -> bool:
        """Whether all activations up to the head change by the same amount at every width."""
        return all(kind.trend == "steady" for kind in self.kinds if kind.kind not in _NOT_HIDDEN)

    @property
    def moving(self) -> tuple[Coordinate, ...]:
        """The kinds whose change grows or vanishes with width."""
        return tuple(kind for kind in self.kinds if kind.trend != "steady")


def judge_coordinates(table: pd.DataFrame, tolerance: float = TOLERANCE) -> Transfer:
    """Judge a table with columns width, init_seed, step, kind, size and change, of two widths or more.

    A kind is steady if its slope is at most `tolerance`, either way.
    """
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
