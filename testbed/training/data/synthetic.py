"""A synthetic language whose entropy is known in closed form: a Zipf back-off k-gram source.

Every context of the last o tokens (o = 1..K) has a few successor tokens, drawn without replacement
from a Zipf law and disjoint from those of the shorter contexts. The next token is the successor in
slot j with a probability q[j] that is the same in every context. So the entropy of the next token is
H(q) in every context: E = -sum q log q nats/token, independent of the stationary distribution.
Longer contexts are rarer and learnt later, which gives a power law of the loss in tokens and size.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from testbed.config import Data, Zipf
from testbed.records import DataFacts

if TYPE_CHECKING:
    import torch

    from testbed.training.data.on_device import RowMaker

CHUNK = 2048  # rows generated at once; part of the definition of the language, since it keys the generator
_VALIDATION_KEY = 2**64 - 1  # no data seed reaches it
_GRAIN = 65536  # slot probabilities are multiples of 1/65536, so that sampling them is exact


class ZipfSource:
    """`synthetic:zipf`: endless, random access by (seed, row); scores tokens whose whole context is in the window."""

    def __init__(self, config: Data) -> None:
        zipf = config.zipf or Zipf()
        self.order = len(zipf.successors)
        self.vocab_size = zipf.vocab_size
        self._seq_len = config.seq_len
        self._val_windows = config.val_windows
        weights = _zipf_weights(zipf)
        self._cumulative = np.cumsum(weights)
        self.successors = _successor_table(zipf, weights)  # flat [vocab^order * n_slots]; see _successor_table
        counts = _slot_counts(zipf)
        self.slots = np.repeat(np.arange(counts.size, dtype=np.int32), counts)  # [65536], the slot of each draw
        self.n_slots = counts.size
        q = counts / _GRAIN
        self._chunk = lru_cache(maxsize=4)(self._make_chunk)
        made = hashlib.sha256(self.validation().tobytes() + self._make_chunk(0, 0).tobytes())
        self.facts = DataFacts(
            source="synthetic:zipf",
            tokenizer="none",
            vocab_size=zipf.vocab_size,
            seq_len=config.seq_len,
            first_scored=self.order - 1,
            train_tokens=None,
            val_tokens=config.val_windows * (config.seq_len - self.order + 1),
            val_bytes=None,
            entropy=float(-(q * np.log(q)).sum()),
            fingerprint=made.hexdigest(),
        )

    def rows(self, data_seed: int, start: int, count: int) -> NDArray[np.uint16]:
        """Training windows [count, seq_len + 1]."""
        first, last = start // CHUNK, (start + count - 1) // CHUNK
        parts = [self._chunk(data_seed, index) for index in range(first, last + 1)]
        offset = start - first * CHUNK
        return np.concatenate(parts)[offset : offset + count]

    def validation(self) -> NDArray[np.uint16]:
        """The frozen windows [val_windows, seq_len + 1], from a stream that no training seed reaches."""
        chunks = -(-self._val_windows // CHUNK)
        return np.concatenate([self._make_chunk(_VALIDATION_KEY, i) for i in range(chunks)])[: self._val_windows]

    def device_rows(self, device: torch.device) -> RowMaker:
        """A maker of the rows that walks from context to context on the device."""
        from testbed.training.data.on_device import walked

        return walked(self, CHUNK, device)

    def draws(self, key: int, index: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """The random numbers of a chunk: first tokens [order, CHUNK] of its rows, and draws [seq_len + 1, CHUNK] of the slots.

        The first `order` draws of a row are not used.
        """
        rng = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, index]))
        first = np.searchsorted(self._cumulative, rng.random((self.order, CHUNK))).clip(0, self.vocab_size - 1)
        return first.astype(np.uint16), rng.integers(0, _GRAIN, (self._seq_len + 1, CHUNK), dtype=np.uint16)

    def _make_chunk(self, key: int, index: int) -> NDArray[np.uint16]:
        """Rows [CHUNK, seq_len + 1] of one generator stream, made position by position for all rows at once."""
        first, draws = self.draws(key, index)
        order, vocab, length = self.order, self.vocab_size, self._seq_len + 1
        tokens = np.empty((length, CHUNK), np.uint16)
        tokens[:order] = first
        context = np.zeros(CHUNK, np.int32)
        for position in range(order):
            context = context * vocab + first[position]
        shorter = vocab ** (order - 1)
        for position in range(order, length):
            chosen = self.successors[context * self.n_slots + self.slots[draws[position]]]
            tokens[position] = chosen
            context = (context % shorter) * vocab + chosen
        return np.ascontiguousarray(tokens.T)


def _zipf_weights(zipf: Zipf) -> NDArray[np.float64]:
    weights = (np.arange(zipf.vocab_size) + 1.0) ** -zipf.exponent
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _slot_counts(zipf: Zipf) -> NDArray[np.int64]:
    """Number of the 65536 equally likely draws that select each slot."""
    parts = []
    for mass, slots in zip(zipf.mass, zipf.successors, strict=True):
        share = 1 / (np.arange(slots) + 1.0)
        parts.append(mass * share / share.sum())
    counts = np.maximum(1, np.round(np.concatenate(parts) * _GRAIN).astype(np.int64))
    counts[0] += _GRAIN - counts.sum()
    return counts


def _successor_table(zipf: Zipf, weights: NDArray[np.float64]) -> NDArray[np.int32]:
    """Successors of every full context, flat [vocab^K * slots]; a context's id is its tokens in base vocab."""
    rng = np.random.Generator(np.random.Philox(zipf.seed))
    vocab, order = zipf.vocab_size, len(zipf.successors)
    taken = np.zeros((1, vocab), bool)
    tables = []
    for length, slots in enumerate(zipf.successors, 1):
        contexts = vocab**length
        taken = np.tile(taken, (vocab, 1))  # the id of the context without its oldest token is id mod vocab^(length-1)
        gumbel = np.log(weights) - np.log(-np.log(rng.random((contexts, vocab)) + 1e-300))
        gumbel[taken] = -np.inf
        chosen = np.argsort(-gumbel, axis=1, kind="stable")[:, :slots]  # Gumbel top-k: Zipf without replacement
        taken[np.arange(contexts)[:, None], chosen] = True
        tables.append(chosen.astype(np.int32))
    ids = np.arange(vocab**order)
    return np.concatenate([table[ids % len(table)] for table in tables], axis=1).reshape(-1)
