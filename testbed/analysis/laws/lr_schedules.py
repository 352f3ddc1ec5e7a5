"""Learning-rate schedules rebuilt from logged rows, for laws of whole curves; it decides nothing about the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.errors import TableError

Array = NDArray[np.float64]

_FINEST = 0.01  # a ramp is cut into changes of at most this share of the run's highest LR


@dataclass(frozen=True)
class Changes:
    """The changes of one run's LR in order, each array [m].

    At `step` the LR falls by `drop` (negative where it rises) to `lr`; over the steps before it sums up to `lr_sum`.
    """

    step: Array
    lr: Array
    drop: Array
    lr_sum: Array


def schedules(columns: Mapping[str, NDArray[Any]]) -> Iterator[tuple[NDArray[np.intp], Changes]]:
    """For each run of columns run, step, lr_at_step, lr_sum: its rows in the order of their steps, and its changes.

    TableError for a step or an LR below 0, or an lr_sum that is not the growing sum of the LR.
    """
    step, lr, lr_sum = (np.asarray(columns[name], np.float64) for name in ("step", "lr_at_step", "lr_sum"))
    names, run = np.unique(np.asarray(columns["run"]).astype(str), return_inverse=True)
    order = np.lexsort((step, run))
    for rows in np.split(order, np.flatnonzero(np.diff(run[order])) + 1):
        _check(names[run[rows[0]]], step[rows], lr[rows], lr_sum[rows])
        yield rows, changes(step[rows], lr[rows], lr_sum[rows])


def changes(step: Array, lr: Array, lr_sum: Array) -> Changes:
    """The changes between the rows of one run, and from an LR of 0 before its first step to its first row.

    Two rows say from which LR to which it went and, by `lr_sum`, when. Between stretches of constant LR
    it is taken to jump, elsewhere to follow a straight ramp that begins at the one row or ends at the other.
    """
    begin = np.concatenate([[min(0.0, step[0] - 1)], step[:-1]])
    old = np.concatenate([[0.0], lr[:-1]])
    summed = np.concatenate([[0.0], lr_sum[:-1]])
    span = np.maximum(step - begin, 1.0)
    moves = np.abs(lr - old) > 1e-9 * lr.max()
    rest = np.concatenate([[False], ~moves[:-1]]) & np.concatenate([~moves[1:], [False]])
    rise = np.where(moves, lr - old, 1.0)
    area = lr_sum - summed - old * span - rise / 2  # what the polygon through the steps' LRs adds to the old one's
    late = 1 - np.clip(area / (rise * span), 0, 1)
    length = np.where(rest, 1.0, np.maximum(1.0, 2 * span * np.minimum(late, 1 - late)))
    start = np.clip(begin + span * late - length / 2, begin, begin + span - length)
    pieces = np.ceil(np.abs(rise) / (_FINEST * lr.max()))
    count = np.where(moves, np.clip(pieces, 1, np.floor(length)), 0).astype(np.intp)

    k = np.repeat(np.arange(len(step)), count)  # the interval of each piece
    part = (np.arange(len(k)) - np.repeat(np.cumsum(count) - count, count) + 0.5) / count[k]
    gone = length[k] * part - 0.5  # steps of the ramp before the piece
    slope = rise[k] / length[k]
    before = summed[k] + old[k] * (start[k] + gone - begin[k]) + slope * gone * (gone + 1) / 2
    return Changes(start[k] + gone + 1, old[k] + slope * (gone + 1), -rise[k] / count[k], before)


def _check(run: str, step: Array, lr: Array, lr_sum: Array) -> None:
    if step[0] < 0 or lr.min() < 0 or lr.max() == 0:
        raise TableError(
            f"run {run}: steps from {step[0]:g}, lr_at_step from {lr.min():g} to {lr.max():g}; give both from 0 up"
        )
    falls = np.flatnonzero(np.diff(lr_sum, prepend=0.0) < 0)
    if lr_sum[0] <= 0 or falls.size:
        k = int(falls[0]) if falls.size else 0
        raise TableError(
            f"run {run}: lr_sum is {lr_sum[k]:g} at step {step[k]:g}; it must be above 0 and grow: "
            "give the sum of the learning rate over all steps so far, warm-up included"
        )
