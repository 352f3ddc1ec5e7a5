"""Training windows on a device: what the host prepares of them, in any thread, and what the device makes of that.

A maker gives the very tokens of source.rows. Ids are held in the fewest bytes: int16 with the bits of
uint16 up to a vocabulary of 65,536, int32 above.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from testbed.training.data import TokenSource
from testbed.training.data.synthetic import CHUNK, ZipfSource
from testbed.training.data.text import TextSource

Parts = tuple[NDArray[np.generic], ...]

_LARGEST_CORPUS = 4 << 30  # bytes of tokens that are kept on a device


class RowMaker(Protocol):
    """Makes windows on a device in two halves."""

    def prepare(self, data_seed: int, start: int, count: int) -> Parts:
        """The host's half of rows start to start + count; touches no device."""
        ...

    def finish(self, parts: tuple[Tensor, ...], start: int, count: int) -> Tensor:
        """The windows [count, seq_len + 1] of parts that lie on the device by now; never waits for it."""
        ...


def make_rows(source: TokenSource, device: torch.device) -> RowMaker:
    """The fastest maker there is for this source; learners of one process share what it keeps on the device."""
    if isinstance(source, ZipfSource):
        return _walked(source, device)
    if isinstance(source, TextSource) and source.tokens.nbytes <= _LARGEST_CORPUS:
        return _gathered(source, device)
    return _Uploaded(source)


def token_type(vocab_size: int) -> torch.dtype:
    """The narrow type of ids below `vocab_size`."""
    return torch.int16 if vocab_size <= 2**16 else torch.int32


def ids_of(tokens: Tensor, vocab_size: int) -> Tensor:
    """Narrow ids as int64."""
    ids = tokens.long()
    return ids & 0xFFFF if 2**15 < vocab_size <= 2**16 else ids


def _narrow(tokens: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same bits under a signed type, which every kernel knows."""
    return tokens.view(np.int16 if tokens.dtype.itemsize == 2 else np.int32)


class _Uploaded:
    """Any source: the host makes the rows."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._type = np.uint16 if source.facts.vocab_size <= 2**16 else np.uint32

    def prepare(self, data_seed: int, start: int, count: int) -> Parts:
        return (_narrow(self._source.rows(data_seed, start, count).astype(self._type)),)

    def finish(self, parts: tuple[Tensor, ...], start: int, count: int) -> Tensor:
        return parts[0]


class _Gathered:
    """Text: the whole corpus lies on the device, the host says which windows."""

    def __init__(self, source: TextSource, device: torch.device) -> None:
        self._source = source
        T = source.facts.seq_len
        tokens = torch.from_numpy(_narrow(np.array(source.tokens))).to(device)
        self._windows = tokens.unfold(0, T + 1, T)  # [n, T + 1], a view: neighbours share a token

    def prepare(self, data_seed: int, start: int, count: int) -> Parts:
        return (self._source.chosen(data_seed, start, count),)

    def finish(self, parts: tuple[Tensor, ...], start: int, count: int) -> Tensor:
        return self._windows.index_select(0, parts[0])


class _Walked:
    """The synthetic language: the host draws, the device walks from context to context (see ZipfSource)."""

    def __init__(self, source: ZipfSource, device: torch.device) -> None:
        self._source = source
        self._successors = torch.from_numpy(source.successors).to(device)
        self._slots = torch.from_numpy(source.slots).to(device)

    def prepare(self, data_seed: int, start: int, count: int) -> Parts:
        chunks = range(start // CHUNK, (start + count - 1) // CHUNK + 1)
        first, draws = zip(*(self._source.draws(data_seed, index) for index in chunks), strict=True)
        return _narrow(np.concatenate(first, 1)), _narrow(np.concatenate(draws, 1))

    def finish(self, parts: tuple[Tensor, ...], start: int, count: int) -> Tensor:
        first, draws = parts  # [order, C], [T + 1, C] with C rows of whole chunks
        source, order = self._source, self._source.order
        tokens = torch.empty_like(draws)
        tokens[:order] = first
        context = torch.zeros_like(draws[0], dtype=torch.int32)
        for position in range(order):
            context = context * source.vocab_size + first[position]
        shorter = source.vocab_size ** (order - 1)
        for position in range(order, len(draws)):
            slot = self._slots.index_select(0, draws[position].int() & 0xFFFF)
            chosen = self._successors.index_select(0, context * source.n_slots + slot)
            tokens[position] = chosen
            context = (context % shorter) * source.vocab_size + chosen
        offset = start % CHUNK
        return tokens[:, offset : offset + count].T


_gathered = lru_cache(maxsize=1)(_Gathered)
_walked = lru_cache(maxsize=1)(_Walked)
