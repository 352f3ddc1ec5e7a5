"""Repeated data: any source cut to a pool of distinct tokens, in a new shuffled order each epoch (arXiv:2305.16264)."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from testbed.training.data.order import shuffled
from testbed.training.data.source import TokenSource, Windows

_POOL = 2**31  # data seed of the pool: the same windows for every run


class Repeated:
    """A pool of `unique_tokens` tokens of a source, as windows [n, seq_len + 1]; the pool is the same for every run."""

    def __init__(self, source: TokenSource, unique_tokens: int) -> None:
        facts = source.facts
        self._windows = source.rows(_POOL, 0, max(1, unique_tokens // facts.seq_len))
        self._source = source
        self.facts = facts.model_copy(
            update={
                "train_tokens": len(self._windows) * facts.seq_len,
                "fingerprint": hashlib.sha256(f"{facts.fingerprint} {len(self._windows)}".encode()).hexdigest(),
            }
        )

    def rows(self, data_seed: int, start: int, count: int) -> Windows:
        """Training windows [count, seq_len + 1]; every epoch is a permutation of the pool."""
        epochs, positions = np.divmod(np.arange(start, start + count), len(self._windows))
        chosen: NDArray[np.int64] = np.empty(count, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            chosen[here] = shuffled(positions[here], len(self._windows), (int(epoch) << 64) + data_seed)
        return self._windows[chosen]

    def validation(self) -> Windows:
        """The validation windows of the whole source."""
        return self._source.validation()
