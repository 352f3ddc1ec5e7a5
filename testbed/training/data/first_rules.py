"""What data.rules = 1 says of a text: the documents, the split and the validation windows of sweeps of the first format.

Their folders keep their tokens and windows. Files are cut into documents of about 256 kB, one document in 20 is kept for
validation by its hash, and a window is left out when at least half of its runs of 32 tokens occur somewhere in the
training tokens. Those rules are coarse, and drop text for being likely: nothing new uses them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testbed.errors import DataError
from testbed.training.data.text_files import Tally, read_file

VAL_SHARE = 20  # one document in 20 is kept for validation
_BLOCK = 1 << 18  # longer files are cut at line ends into documents of about this many bytes
_SHINGLE = 32
_SHORT_SHINGLE = 8  # for windows of fewer than 32 tokens
_SCANNED = 1 << 22
_FACTOR = 0x9E3779B97F4A7C15
_FILTER_BITS = 22
_FILTER_SHIFT = np.uint64(64 - _FILTER_BITS)


class PlainFiles:
    """The documents of text files; `label` names the source in messages and records."""

    def __init__(self, label: str, files: list[Path], skip_undecodable: bool = False) -> None:
        self.label = label
        self._files = files
        self._skip = skip_undecodable

    def key(self) -> str:
        """SHA-256 over the contents of all files, in order."""
        total = hashlib.sha256()
        for path in self._files:
            total.update(hashlib.sha256(read_file(path)).digest())
        return total.hexdigest()

    def read(self, tally: Tally) -> Iterator[bytes]:
        """Every file, cut into documents."""
        for path in self._files:
            content = read_file(path)
            try:
                content.decode("utf-8")
            except UnicodeDecodeError as error:
                if self._skip:
                    continue
                raise DataError(
                    f"{path}: not UTF-8 at byte {error.start}; text sources are UTF-8, convert or remove the file"
                ) from None
            yield from _blocks(content)


def plain_files(name: str) -> PlainFiles:
    """The files of "text:NAME": one file, or every file of a folder but hidden and linked ones."""
    try:
        path = Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError):  # not a valid file name, or the home of an unknown user
        is_file = is_folder = False
    if is_file:
        return PlainFiles(f"text:{name}", [path])
    if not is_folder:
        raise DataError(f"text:{name}: no such file or folder; give a UTF-8 text file or a folder of them")
    files = walk(path, set())
    if not files:
        raise DataError(f"text:{name}: the folder holds no files; give a UTF-8 text file or a folder of them")
    return PlainFiles(f"text:{name}", files)


def walk(root: Path, skip: Collection[str]) -> list[Path]:
    """Every file below `root`, sorted by path, without hidden ones and without folders named in `skip`."""
    found = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in skip and not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    return sorted(found, key=str)


def split(documents: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Each document with its split, by the hash of its content: copies of a document are on one side."""
    for document in documents:
        lot = int.from_bytes(hashlib.sha256(document).digest()[-4:], "big")
        yield ("val" if lot % VAL_SHARE == 0 else "train"), document


def choose_windows(
    train: NDArray[np.integer], val: NDArray[np.integer], seq_len: int, count: int, label: str
) -> tuple[NDArray[np.integer], float]:
    """`count` windows [count, seq_len + 1] of `val`, and the share of candidates dropped as near-duplicates."""
    available = (len(val) - 1) // seq_len
    candidates = np.unique(np.linspace(0, max(available - 1, 0), min(available, 4 * count)).astype(np.int64))
    windows = np.asarray(val)[candidates[:available, None] * seq_len + np.arange(seq_len + 1)]
    fresh = windows[~near_duplicates(train, windows)] if available else windows
    if len(fresh) < count:
        raise DataError(
            f"{label}: found {len(fresh)} validation windows of {seq_len} tokens ({available} in the 5 % of the text kept for "
            f"validation, less those that repeat training text), data.val_windows asks for {count}; lower it or give more text"
        )
    chosen = fresh[np.linspace(0, len(fresh) - 1, count).astype(np.int64)]
    return chosen, 1 - len(fresh) / len(candidates)


def near_duplicates(train: NDArray[np.integer], windows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which windows [n, length] have at least half of their shingles in `train` [tokens]."""
    length = _SHINGLE if windows.shape[1] >= _SHINGLE else _SHORT_SHINGLE
    shingles = run_hashes(windows, length)
    known, where = np.unique(shingles, return_inverse=True)
    seen = np.zeros(len(known), bool)
    maybe = np.zeros(1 << _FILTER_BITS, bool)  # most training shingles are ruled out by their top bits alone
    maybe[known >> _FILTER_SHIFT] = True
    for start in range(0, max(len(train) - length + 1, 0), _SCANNED):
        hashes = run_hashes(train[start : start + _SCANNED + length - 1], length)
        hashes = hashes[maybe[hashes >> _FILTER_SHIFT]]
        slots = np.searchsorted(known, hashes).clip(0, len(known) - 1)
        seen[slots[known[slots] == hashes]] = True
    share: NDArray[np.float64] = seen[where.reshape(shingles.shape)].mean(axis=1)
    return share >= 0.5


def run_hashes(tokens: NDArray[np.integer], length: int) -> NDArray[np.uint64]:
    """Hashes of every run of `length` tokens (a power of two) along the last axis, by doubling.

    A run of 2s tokens hashes to h(first s) * F^s + h(last s) modulo 2^64. The last product spreads the low
    bits into the high ones, which the filter uses.
    """
    hashes = tokens.astype(np.uint64) + np.uint64(1)
    factor, span = _FACTOR, 1
    while span < length:
        hashes = hashes[..., :-span] * np.uint64(factor) + hashes[..., span:]
        factor, span = factor * factor % 2**64, 2 * span
    return hashes * np.uint64(_FACTOR)


def _blocks(content: bytes) -> Iterator[bytes]:
    start = 0
    while len(content) - start > _BLOCK:
        end = content.rfind(b"\n", start, start + _BLOCK) + 1
        if end <= start:  # no line end: cut at a character boundary
            end = start + _BLOCK
            while content[end] & 0xC0 == 0x80:
                end -= 1
        yield content[start:end]
        start = end
    if start < len(content):
        yield content[start:]
