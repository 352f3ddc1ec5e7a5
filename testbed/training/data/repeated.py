"""Repeated data: any source cut to a pool of distinct tokens, in a new shuffled order each epoch (arXiv:2305.16264)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from testbed.training.data.order import shuffled
from testbed.training.data.source import TokenSource, Windows
from testbed.training.data.tokenizers import Tokenizer

if TYPE_CHECKING:
    import torch

    from testbed.training.data.on_device import RowMaker

_POOL = 2**31  # data seed of the pool: the same windows for every run


class Repeated:
    """A pool of `unique_tokens` tokens of a source, as windows [n, seq_len + 1]; the pool is the same for every run."""

    def __init__(self, source: TokenSource, unique_tokens: int) -> None:
        facts = source.facts
        self._windows = source.rows(_POOL, 0, max(1, unique_tokens // facts.seq_len))
        self._source = source
        self.tokenizer: Tokenizer | None = getattr(source, "tokenizer", None)
        self.facts = facts.model_copy(
            update={
                "train_tokens": len(self._windows) * facts.seq_len,
                "fingerprint": hashlib.sha256(f"{facts.fingerprint} {len(self._windows)}".encode()).hexdigest(),
            }
        )

    def rows(self, data_seed: int, start: int, count: int) -> Windows:
        """Training windows [count, seq_len + 1]; every epoch is a permutation of the pool."""
        return self._windows[self.chosen(data_seed, start, count)]

    def chosen(self, data_seed: int, start: int, count: int) -> NDArray[np.int64]:
        """Indices [count] of the pool's windows in rows `start` to `start + count`."""
        epochs, positions = np.divmod(np.arange(start, start + count), len(self._windows))
        chosen: NDArray[np.int64] = np.empty(count, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            chosen[here] = shuffled(positions[here], len(self._windows), (int(epoch) << 64) + data_seed)
        return chosen

    @property
    def tokens(self) -> Windows:
        """All tokens of the pool, one window of seq_len + 1 after the other."""
        return self._windows.reshape(-1)

    def device_rows(self, device: torch.device) -> RowMaker | None:
        """A maker of the rows from the whole pool on the device; None where that is too large."""
        from testbed.training.data.on_device import gathered

        return gathered(self, self.facts.seq_len + 1, device)

    def validation(self) -> Windows:
        """The validation windows of the whole source."""
        return self._source.validation()
