"""The batches of runs that are trained side by side, on their device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from testbed.data import BlockReader, TokenSource
from testbed.records import RunSpec


class Feed:
    """Windows [K, B, T + 1] (ids as int64) of any step; a pure function of the runs' data seeds and the step."""

    def __init__(self, specs: tuple[RunSpec, ...], source: TokenSource, device: torch.device) -> None:
        rows = specs[0].batch_tokens // specs[0].shape.seq_len
        seeds = [spec.data_seed for spec in specs]
        self._readers = [BlockReader(source, seed, rows) for seed in dict.fromkeys(seeds)]
        self._reader_of = [list(dict.fromkeys(seeds)).index(seed) for seed in seeds]
        self._device = device

    def __call__(self, step: int) -> Tensor:
        """The windows of optimiser step `step` (from 0)."""
        read = [reader(step) for reader in self._readers]
        windows = np.stack([read[index] for index in self._reader_of])
        return torch.as_tensor(windows).to(self._device, torch.long)
