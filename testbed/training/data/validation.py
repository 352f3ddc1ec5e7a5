"""The frozen validation windows of a text: evenly spaced, without near-duplicates of training text.

A window is a near-duplicate when at least half of its 32-token shingles occur somewhere in the
training tokens. Such windows reward memorising, and larger models more, so they change the slope of the law.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.errors import DataError

_SHINGLE = 32
_SHORT_SHINGLE = 8  # for windows of fewer than 32 tokens
_BLOCK = 1 << 22
_FACTOR = 0x9E3779B97F4A7C15
_FILTER_BITS = 22
_FILTER_SHIFT = np.uint64(64 - _FILTER_BITS)


def choose_windows(
    train: NDArray[np.integer], val: NDArray[np.integer], seq_len: int, count: int, label: str
) -> tuple[NDArray[np.integer], float]:
    """`count` windows [count, seq_len + 1] of `val`, and the share of candidates dropped as near-duplicates."""
    available = (len(val) - 1) // seq_len
    candidates = np.unique(np.linspace(0, max(available - 1, 0), min(available, 4 * count)).astype(np.int64))
    windows = np.asarray(val)[candidates[:available, None] * seq_len + np.arange(seq_len + 1)]
    fresh = windows[~near_duplicates(train, windows)] if available else windows
    if len(fresh) < count:
        raise DataError(
            f"{label}: found {len(fresh)} validation windows of {seq_len} tokens ({available} in the 5 % of the text kept for "
            f"validation, less those that repeat training text), data.val_windows asks for {count}; lower it or give more text"
        )
    chosen = fresh[np.linspace(0, len(fresh) - 1, count).astype(np.int64)]
    return chosen, 1 - len(fresh) / len(candidates)


def near_duplicates(train: NDArray[np.integer], windows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which windows [n, length] have at least half of their shingles in `train` [tokens]."""
    length = _SHINGLE if windows.shape[1] >= _SHINGLE else _SHORT_SHINGLE
    shingles = _shingle_hashes(windows, length)
    known, where = np.unique(shingles, return_inverse=True)
    seen = np.zeros(len(known), bool)
    maybe = np.zeros(1 << _FILTER_BITS, bool)  # most training shingles are ruled out by their top bits alone
    maybe[known >> _FILTER_SHIFT] = True
    for start in range(0, max(len(train) - length + 1, 0), _BLOCK):
        hashes = _shingle_hashes(train[start : start + _BLOCK + length - 1], length)
        hashes = hashes[maybe[hashes >> _FILTER_SHIFT]]
        slots = np.searchsorted(known, hashes).clip(0, len(known) - 1)
        seen[slots[known[slots] == hashes]] = True
    share: NDArray[np.float64] = seen[where.reshape(shingles.shape)].mean(axis=1)
    return share >= 0.5


def _shingle_hashes(tokens: NDArray[np.integer], length: int) -> NDArray[np.uint64]:
    """Hashes of every run of `length` tokens (a power of two) along the last axis, by doubling.

    A run of 2s tokens hashes to h(first s) * F^s + h(last s) modulo 2^64. The last product spreads the low
    bits into the high ones, which the filter uses.
    """
    hashes = tokens.astype(np.uint64) + np.uint64(1)
    factor, span = _FACTOR, 1
    while span < length:
        hashes = hashes[..., :-span] * np.uint64(factor) + hashes[..., span:]
        factor, span = factor * factor % 2**64, 2 * span
    return hashes * np.uint64(_FACTOR)
