"""The frozen validation windows of a text: a fair sample of its held-out part, never across a cut.

Windows are taken evenly from the order of their difficulty, as the frequencies of pairs of tokens tell it. The mean loss
of 1,024 of them is then half as far from that of all held-out text as with windows at equal distances (.45 instead of
.8 % for the largest models of the quick study, .4 instead of .6 % for the smallest).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.errors import DataError

LEAST = 8
_CANDIDATES = 16  # windows for each that is taken
_TOKENS = 1 << 22  # of all candidates


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
    most = max(count, min(_CANDIDATES * count, _TOKENS // seq_len))
    if len(starts) > most:
        starts = starts[np.linspace(0, len(starts) - 1, most).astype(np.int64)]
    windows: NDArray[np.integer] = np.asarray(val)[starts[:, None] + np.arange(seq_len + 1)]
    return windows if len(windows) <= count else windows[_evenly_difficult(windows, count)]


def _evenly_difficult(windows: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Indices of `count` windows, evenly from the order of their mean -log p(token | token before it), by place."""
    before, after = windows[:, :-1].astype(np.int64), windows[:, 1:].astype(np.int64)
    _, pairs, often = np.unique(before * (int(windows.max()) + 1) + after, return_inverse=True, return_counts=True)
    singles = np.bincount(before.ravel())[before]
    difficulty = (np.log(singles) - np.log(often[pairs.reshape(before.shape)])).mean(axis=1)
    order = np.argsort(difficulty.round(9), kind="stable")
    taken = ((np.arange(count) + 0.5) * len(windows) / count).astype(np.int64)
    return np.sort(order[taken])
