"""The frozen validation windows of a text: evenly spaced in its held-out part, and never across a cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.errors import DataError

LEAST = 8


def choose_windows(
    val: NDArray[np.integer], cuts: NDArray[np.int64], seq_len: int, count: int, label: str
) -> NDArray[np.integer]:
    """Up to `count` windows [n, seq_len + 1] of `val`; between two `cuts` they start every seq_len tokens.

    Raises:
        DataError: There are fewer than 8.
    """
    edges = np.concatenate([[0], cuts, [len(val)]])
    numbers = np.maximum(np.diff(edges) - 1, 0) // seq_len
    first = np.repeat(edges[:-1], numbers)
    within = np.arange(numbers.sum()) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    starts = first + within * seq_len
    if len(starts) < LEAST:
        raise DataError(
            f"{label}: the held-out part of {len(val):,} tokens has {len(starts)} windows of {seq_len} tokens, a validation "
            f"takes {LEAST}; give more text, raise data.val_share, or lower data.seq_len"
        )
    if len(starts) > count:
        starts = starts[np.linspace(0, len(starts) - 1, count).astype(np.int64)]
    windows: NDArray[np.integer] = np.asarray(val)[starts[:, None] + np.arange(seq_len + 1)]
    return windows
