"""The networks and batches that contenders train, and ready tokens for them. See __init__.py."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from testbed.config import Config
from testbed.config.loading import check_config
from testbed.records import Counts, DataFacts
from testbed.training.models import find_family

POOL = 4096  # windows of ready tokens, taken in turn
RATE = 1e-3


@dataclass(frozen=True)
class Size:
    """A network and its batch."""

    name: str
    width: int
    depth: int
    head_size: int
    vocab_size: int = 256
    seq_len: int = 128
    batch_tokens: int = 2048

    @property
    def rows(self) -> int:
        """Windows in a batch."""
        return self.batch_tokens // self.seq_len

    def words(self) -> str:
        """For a table."""
        return f"{self.name}: width {self.width}, {self.depth} layers, heads of {self.head_size}, windows of {self.seq_len}"

    def counts(self) -> Counts:
        """Parameters and exact FLOPs a token, by the product's arithmetic."""
        family = find_family("gpt")
        shape = family.shape(self.width, self.config().model, self.vocab_size, self.seq_len)
        return family.counts(shape)

    def config(self, seeds: int = 1, steps: int = 10**6, **train: Any) -> Config:
        """A study of this one shape, with a horizon of so many steps."""
        return check_config(
            {
                "name": "bench",
                "data": {"source": "synthetic:zipf", "seq_len": self.seq_len},
                "model": {"head_size": self.head_size, "depth": self.depth},
                "train": {"batch_tokens": self.batch_tokens, "lr": RATE, **train},
                "grid": {
                    "widths": [self.width],
                    "tokens": [steps * self.batch_tokens],
                    "init_seeds": list(range(seeds)),
                },
            },
            "bench",
        )


class ReadyTokens:
    """A source of windows that are there already, so that no contender is timed on its data (see data.TokenSource)."""

    def __init__(self, size: Size) -> None:
        rng = np.random.default_rng(0)
        windows = min(POOL, max(64, 2**25 // size.seq_len))
        self._pool = rng.integers(0, size.vocab_size, (windows, size.seq_len + 1), dtype=np.uint16)
        self.facts = DataFacts(
            source="ready",
            tokenizer="none",
            vocab_size=size.vocab_size,
            seq_len=size.seq_len,
            first_scored=0,
            train_tokens=None,
            val_tokens=8 * size.seq_len,
            val_bytes=None,
            entropy=math.log(size.vocab_size),
            fingerprint="uniform",
        )

    def rows(self, data_seed: int, start: int, count: int) -> np.ndarray:
        """The windows from `start` on, over and over."""
        return self._pool[(start + data_seed + np.arange(count)) % len(self._pool)]

    def validation(self) -> np.ndarray:
        """The first eight windows."""
        return self._pool[:8]

    def tensor(self) -> Tensor:
        """All windows [n, T + 1], int64."""
        return torch.as_tensor(self._pool.astype(np.int64))
