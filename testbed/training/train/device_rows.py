"""Training windows on a device: the source's own way of making them there, or rows that the host makes.

A maker gives the very tokens of source.rows. Ids are held in the fewest bytes: int16 with the bits of
uint16 up to a vocabulary of 65,536, int32 above.
"""

from __future__ import annotations

import torch
from torch import Tensor

from testbed.training.data import TokenSource
from testbed.training.data.on_device import Parts, RowMaker, narrow, token_dtype


def make_rows(source: TokenSource, device: torch.device) -> RowMaker:
    """The source's own maker of rows on this device, where it has one for the rows that it gives."""
    owner = _owner(source, "device_rows")
    if owner is None or not issubclass(owner, _owner(source, "rows") or object):  # rows were overridden, the maker not
        return _Uploaded(source)
    maker: RowMaker | None = source.device_rows(device)  # type: ignore[attr-defined]
    return maker or _Uploaded(source)


def token_type(vocab_size: int) -> torch.dtype:
    """The narrow type of ids below `vocab_size`."""
    return torch.int16 if vocab_size <= 2**16 else torch.int32


def ids_of(tokens: Tensor, vocab_size: int) -> Tensor:
    """Narrow ids as int64."""
    ids = tokens.long()
    return ids & 0xFFFF if 2**15 < vocab_size <= 2**16 else ids


def _owner(source: TokenSource, name: str) -> type | None:
    """The class that gives this source its method `name`."""
    return next((kind for kind in type(source).__mro__ if name in vars(kind)), None)


class _Uploaded:
    """Any source: the host makes the rows."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._type = token_dtype(source.facts.vocab_size)

    def prepare(self, data_seed: int, start: int, count: int) -> Parts:
        return (narrow(self._source.rows(data_seed, start, count).astype(self._type)),)

    def finish(self, parts: tuple[Tensor, ...], start: int, count: int) -> Tensor:
        return parts[0]
