"""The protocol of a token source: windows of tokens as a pure function of (seed, row), and frozen validation windows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from testbed.records import DataFacts

Windows = NDArray[np.integer]


class TokenSource(Protocol):
    """A source of training and validation windows; a batch of B rows at step s is rows s*B to (s+1)*B.

    It may also have:

    - `device_rows(device)`: a maker of the same rows on a torch device (see `on_device.RowMaker`), or None where there is
      none for this device. Without it the host makes the rows and copies them.
    - `tokenizer`: what made its tokens of text (see `tokenizers.Tokenizer`); without it a model that was trained on it
      is exported with a tokenizer only if `facts.tokenizer` is "bytes", or "none" for symbols without a text.
    """

    @property
    def facts(self) -> DataFacts:
        """Vocabulary, sizes, entropy and fingerprint."""
        ...

    def rows(self, data_seed: int, start: int, count: int) -> Windows:
        """Training windows [count, seq_len + 1]; position t + 1 is the target of position t.

        A pure function of its arguments: the same call gives the same tokens on any machine.
        """
        ...

    def validation(self) -> Windows:
        """The frozen validation windows [val_windows, seq_len + 1], disjoint from every training row."""
        ...


class BlockReader:
    """Batches of one run, read ahead in blocks, so that small batches cost no more per token than large ones."""

    def __init__(self, source: TokenSource, data_seed: int, rows_per_step: int, block_steps: int = 64) -> None:
        self._source, self._seed = source, data_seed
        self._rows, self._steps = rows_per_step, block_steps
        self._block = -1
        self._windows: Windows = np.empty((0, 0), np.uint16)

    def __call__(self, step: int) -> Windows:
        """The windows [rows_per_step, seq_len + 1] of optimiser step `step` (from 0)."""
        block, offset = divmod(step, self._steps)
        if block != self._block:
            count = self._steps * self._rows
            self._windows = self._source.rows(self._seed, block * count, count)
            self._block = block
        return self._windows[offset * self._rows : (offset + 1) * self._rows]
