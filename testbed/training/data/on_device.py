"""Training windows made on a device from what lies there, for sources that can say which tokens follow from what.

Ids are held in the fewest bytes: int16 with the bits of uint16 up to a vocabulary of 65,536, int32 above.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from testbed.records import DataFacts

Parts = tuple[NDArray[np.generic], ...]

_LARGEST_CORPUS = 4 << 30  # bytes of tokens that are kept on a device


class RowMaker(Protocol):
    """Makes the windows of a source on a device in two halves; they are the tokens of source.rows."""

    def prepare(self, data_seed: int, start: int, count: int) -> Parts:
        """The host's half of rows start to start + count, in any thread; touches no device."""
        ...

    def finish(self, parts: tuple[Tensor, ...], start: int, count: int) -> Tensor:
        """The windows [count, seq_len + 1] of parts that have been copied to the device; never waits for it."""
        ...


class Stored(Protocol):
    """A source whose training tokens are all in memory, and whose rows are windows of them."""

    @property
    def facts(self) -> DataFacts:
        """As of a `TokenSource`."""
        ...

    @property
    def tokens(self) -> NDArray[np.integer]:
        """All training tokens [n]."""
        ...

    def chosen(self, data_seed: int, start: int, count: int) -> NDArray[np.int64]:
        """Indices [count] of the windows in rows `start` to `start + count`."""
        ...


class BackOff(Protocol):
    """A synthetic language whose next token follows from its context and a drawn slot (see `synthetic.ZipfSource`)."""

    order: int
    vocab_size: int
    n_slots: int
    successors: NDArray[np.int32]  # flat [vocab^order * n_slots]
    slots: NDArray[np.int32]  # the slot of each draw

    def draws(self, key: int, index: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """First tokens [order, C] and draws [seq_len + 1, C] of chunk `index`."""
        ...


def token_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """The narrowest type of numpy for ids below `vocab_size`."""
    return np.uint16 if vocab_size <= 2**16 else np.uint32


def narrow(tokens: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same bits under a signed type, which every kernel knows."""
    return tokens.view(np.int16 if tokens.dtype.itemsize == 2 else np.int32)


@lru_cache(maxsize=1)
def gathered(source: Stored, stride: int, device: torch.device) -> RowMaker | None:
    """A maker that keeps all tokens on the device, where window i starts at i * stride; None where they are too many.

    Learners of one process share it.
    """
    return _Gathered(source, stride, device) if source.tokens.nbytes <= _LARGEST_CORPUS else None


@lru_cache(maxsize=1)
def walked(source: BackOff, chunk: int, device: torch.device) -> RowMaker:
    """A maker of the synthetic language, which generates `chunk` rows at once; learners of one process share it."""
    return _Walked(source, chunk, device)


class _Gathered:
    def __init__(self, source: Stored, stride: int, device: torch.device) -> None:
        self._source = source
        held = np.array(source.tokens, token_dtype(source.facts.vocab_size))
        tokens = torch.from_numpy(narrow(held)).to(device)
        self._windows = tokens.unfold(0, source.facts.seq_len + 1, stride)  # [n, T + 1], a view

    def prepare(self, data_seed: int, start: int, count: int) -> Parts:
        return (self._source.chosen(data_seed, start, count),)

    def finish(self, parts: tuple[Tensor, ...], start: int, count: int) -> Tensor:
        return self._windows.index_select(0, parts[0])


class _Walked:
    """The host draws, the device walks from context to context (see `synthetic.ZipfSource`)."""

    def __init__(self, source: BackOff, chunk: int, device: torch.device) -> None:
        self._source, self._chunk = source, chunk
        self._successors = torch.from_numpy(source.successors).to(device)
        self._slots = torch.from_numpy(source.slots).to(device)

    def prepare(self, data_seed: int, start: int, count: int) -> Parts:
        chunks = range(start // self._chunk, (start + count - 1) // self._chunk + 1)
        first, draws = zip(*(self._source.draws(data_seed, index) for index in chunks), strict=True)
        return narrow(np.concatenate(first, 1)), narrow(np.concatenate(draws, 1))

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
        offset = start % self._chunk
        return tokens[:, offset : offset + count].T
