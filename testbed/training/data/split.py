"""Which part of a text is kept for validation: a fair sample of it, with every copy of a piece on one side.

The unit of the split is a document where there are enough of them, else a block of lines, so small that the sample has
hundreds of units from everywhere in the text. In each row of units (20 for a share of 5 %) the one with the lowest hash
is kept, then some are moved until the share of bytes is right. The hash is that of letters and digits alone, so copies that
differ in white space, case, line ends or punctuation have the same. Units beyond the first 256 MB go by their hash.
"""

from __future__ import annotations

import hashlib
import string
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SURVEYED = 1 << 28  # bytes
_ENOUGH = 128  # documents in the validation, each counted as (sum of sizes)^2 / sum of squares
_UNITS = 512  # blocks that the validation should have
_MOST_OF_ONE = 1 / 16  # of the validation may be copies of one unit
_CLOSE = 0.001  # relative error of the share at which no more units are moved
LEAST, _MOST = 512, 8192  # bytes of a block
_IGNORED = (string.whitespace + string.punctuation).encode()
_LOWER = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())


@dataclass(frozen=True)
class Piece:
    """A document or a part of one; `lot` is the hash that decides its side, `first` and `last` its place in the document."""

    content: bytes
    lot: int
    first: bool
    last: bool


@dataclass(frozen=True)
class Split:
    """The side of every unit: `val` are the lots kept for validation, `train` the others that were surveyed."""

    share: float
    block: int | None  # bytes that a unit has at most; None where whole documents are the units
    documents: int
    copies: int  # documents that repeat another one but for white space, case and punctuation
    train: frozenset[int]
    val: frozenset[int]

    def pieces(self, documents: Iterable[bytes], text: bool = True) -> Iterator[tuple[str, Piece]]:
        """Every unit of the documents with its side; `text` says whether they are UTF-8."""
        for piece in cut(documents, self.block, text):
            yield self.side(piece.lot), piece

    def side(self, lot: int) -> str:
        """The side, "train" or "val", of the units with this hash."""
        if lot in self.val:
            return "val"
        return "train" if lot in self.train or lot >= self.share * 2**64 else "val"


def survey(again: Callable[[], Iterable[bytes]], share: float, least: int, text: bool = True) -> Split:
    """Choose the side of every unit; `again` starts to read the documents again, `least` are the bytes of the smallest block."""
    lots, sizes = _read(again(), None, text)
    units = _unique(lots, sizes)
    documents, copies = len(lots), len(lots) - len(units.lots)
    total, block = int(units.sizes.sum()), None
    if total and share * total**2 / float((units.sizes.astype(float) ** 2).sum()) < _ENOUGH:
        block = max(least, min(_MOST, int(share * total / _UNITS)))
        units = _unique(*_read(again(), block, text))
    kept = _kept(units, share)
    train, val = (frozenset(units.lots[side].tolist()) for side in (~kept, kept))
    return Split(share, block, documents, copies, train, val)


def cut(documents: Iterable[bytes], block: int | None, text: bool = True) -> Iterator[Piece]:
    """The units of the documents; a block ends where its lines say, so that copies are cut alike wherever they stand."""
    for document in documents:
        parts = [document] if block is None or len(document) <= block else list(_blocks(document, block, text))
        for index, part in enumerate(parts):
            yield Piece(part, lot_of(part, text), index == 0, index == len(parts) - 1)


def lot_of(content: bytes, text: bool = True) -> int:
    """The hash, 64 bits, of the letters and digits of a text; of all of it where it has none."""
    letters = bare(content) if text else content
    return int.from_bytes(hashlib.blake2b(letters or content, digest_size=8).digest(), "big")


def bare(content: bytes) -> bytes:
    """The letters and digits of a text in lower case, and whatever is not ASCII."""
    if not content.isascii():
        content = "".join(content.decode().split()).casefold().encode()
    return content.translate(_LOWER, _IGNORED)


def _blocks(document: bytes, block: int, text: bool) -> Iterator[bytes]:
    """Parts of `block` / 2 to `block` bytes that end at line ends, or at spaces where lines are longer than that."""
    if not text:
        step = block - block % 4
        yield from (document[start : start + step] for start in range(0, len(document), step))
        return
    start = end = 0
    for line in _short_lines(document, block // 2):
        if end > start and end - start + len(line) > block:
            yield document[start:end]
            start = end
        end += len(line)
        if end - start >= block // 2 and zlib.crc32(line) & 3 == 0:
            yield document[start:end]
            start = end
    if start < end:
        yield document[start:end]


def _short_lines(document: bytes, most: int) -> Iterator[bytes]:
    for line in document.splitlines(keepends=True):
        start = 0
        while len(line) - start > most:
            end = line.rfind(b" ", start, start + most) + 1
            if end <= start:  # no space: at the boundary of a character
                end = start + most
                while line[end] & 0xC0 == 0x80:
                    end -= 1
            yield line[start:end]
            start = end
        yield line[start:]


def _read(documents: Iterable[bytes], block: int | None, text: bool) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hash and bytes of every unit in the first 256 MB."""
    lots, sizes, total = [], [], 0
    for piece in cut(documents, block, text):
        lots.append(piece.lot)
        sizes.append(len(piece.content))
        total += len(piece.content)
        if total >= _SURVEYED:
            break
    return np.array(lots, np.uint64), np.array(sizes, np.int64)


class _Units(NamedTuple):
    """Each hash once, in the order of the text: the bytes of all units that have it, and their number [n]."""

    lots: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    counts: NDArray[np.int64]


def _unique(lots: NDArray[np.uint64], sizes: NDArray[np.int64]) -> _Units:
    found, first, inverse, counts = np.unique(lots, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    together = np.bincount(inverse, sizes, minlength=len(found)).astype(np.int64)
    return _Units(found[order], together[order], counts[order])


def _kept(units: _Units, share: float) -> NDArray[np.bool_]:
    """Which units are kept for validation: one in each row of 1 / share of them, then some moved for the share of bytes.

    A unit whose copies would make up much of the validation is for training.
    """
    goal = share * units.sizes.sum()
    rank = np.argsort(np.argsort(units.lots))
    free = (units.counts == 1) | (units.sizes <= goal * _MOST_OF_ONE)
    rank[~free] += len(rank)
    row = (np.arange(len(rank)) * share).astype(np.int64)
    order = np.lexsort((rank, row))
    kept = np.zeros(len(rank), bool)
    kept[order[np.flatnonzero(np.diff(row[order], prepend=-1))]] = True
    kept &= free
    have = int(units.sizes[kept].sum())
    for unit in np.argsort(rank)[: free.sum()]:
        if abs(have - goal) <= goal * _CLOSE:
            break
        moved = int(units.sizes[unit]) * (-1 if kept[unit] else 1)
        if abs(have + moved - goal) < abs(have - goal):
            kept[unit] = not kept[unit]
            have += moved
    return kept if len(kept) > 1 else np.zeros(len(kept), bool)
