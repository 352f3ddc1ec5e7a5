"""A shuffled order that needs no memory: a keyed permutation of 0..n-1, any element at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6


def shuffled(positions: NDArray[np.integer], n: int, seed: int) -> NDArray[np.int64]:
    """Images of `positions` (each in 0..n-1) under the permutation of 0..n-1 that `seed` names.

    A balanced Feistel network on the next even power of two, with cycle walking for images outside
    the range (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002, method 2).
    """
    half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    keys = np.random.Generator(np.random.Philox(seed)).integers(0, 2**63, _ROUNDS, dtype=np.uint64)
    images = positions.astype(np.uint64)
    outside = np.arange(images.size)
    flat = images.reshape(-1)
    while outside.size:
        flat[outside] = _feistel(flat[outside], half, keys)
        outside = outside[flat[outside] >= n]
    return flat.reshape(positions.shape).astype(np.int64)


def _feistel(x: NDArray[np.uint64], half: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = x >> bits, x & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << bits) | right


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The splitmix64 finaliser (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
