"""Text that is tokenised already: shards of token ids, as nanoGPT, llm.c and numpy write them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.errors import ConfigError, DataError
from testbed.training.data.text_files import Tally

_LLM_C: dict[int, np.dtype[Any]] = {
    20240520: np.dtype(np.uint16),
    20240801: np.dtype(np.uint32),
}  # magic number -> type of the ids
_HEADER = 256  # int32 numbers in the header of a shard of llm.c: magic, version, number of tokens
_GPT2 = 50257
_WIDE = np.dtype(np.uint32)


class ShardDocuments:
    """The documents of shards, as uint32 ids; files named val or valid are kept for validation."""

    def __init__(self, label: str, files: list[Path], found: Tally) -> None:
        self.label = label
        self._found = found
        self.val_files = [path for path in files if _is_validation(path)]
        self.train_files = [path for path in files if path not in self.val_files]
        if not self.train_files:
            raise DataError(f"{label}: found shards for validation only; give those for training, too")
        highest = max(int(ids.max()) for path in files if len(ids := read_shard(path)))
        self.vocab_size = _GPT2 if _GPT2 - 257 < highest < _GPT2 else highest + 1

    def key(self) -> str:
        """SHA-256 over the contents of all files, in order."""
        total = hashlib.sha256(f"{len(self.val_files)} shards for validation".encode())
        for path in (*self.train_files, *self.val_files):
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()

    def read(self, tally: Tally) -> Iterator[bytes]:
        """The documents of the shards for training; for GPT-2's ids each begins or ends with its <|endoftext|>."""
        tally.left_out.update(self._found.left_out)
        tally.remarks.setdefault(f"shards of token ids, {self.vocab_size:,} in the vocabulary; their text is not known")
        yield from self._documents(self.train_files, tally)

    def validation(self, tally: Tally) -> Iterator[bytes]:
        """The documents of the shards for validation."""
        if self.val_files:
            tally.remarks.setdefault(f"validation: {', '.join(path.name for path in self.val_files)}")
        yield from self._documents(self.val_files, tally)

    def _documents(self, files: list[Path], tally: Tally) -> Iterator[bytes]:
        for path in files:
            tally.files += 1
            ids = read_shard(path)
            ends = np.flatnonzero(ids == _GPT2 - 1) if self.vocab_size == _GPT2 else np.empty(0, np.int64)
            starts = ends if len(ids) and ids[0] == _GPT2 - 1 else ends + 1  # llm.c writes it first, nanoGPT last
            for document in np.split(ids, starts):
                if len(document):
                    yield tally.took(document.astype(_WIDE).tobytes())


class IdTokenizer:
    """The tokenizer of ids whose text is not known."""

    label = "ids"

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode(self, documents: list[bytes]) -> list[NDArray[np.integer]]:
        """The ids themselves."""
        return [np.frombuffer(document, _WIDE) for document in documents]

    def byte_lengths(self) -> None:
        """Not known."""

    def as_json(self) -> str:
        """Not known."""
        raise ConfigError("data.source: shards of token ids, whose tokenizer is not known; give the text itself")


def is_shard(path: Path) -> bool:
    """Whether the file is a shard of token ids: .npy with whole numbers in a row, or .bin."""
    if path.suffix.lower() == ".npy":
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return False
        return array.ndim == 1 and array.dtype.kind in "ui"
    return path.suffix.lower() == ".bin" and path.stat().st_size > 0 and path.stat().st_size % 2 == 0


def read_shard(path: Path) -> NDArray[np.integer]:
    """The token ids of a shard, memory-mapped.

    Raises:
        DataError: It is cut off, or holds numbers below 0.
    """
    if path.suffix.lower() == ".npy":
        ids: NDArray[np.integer] = np.load(path, mmap_mode="r", allow_pickle=False)
        if len(ids) and ids.min() < 0:
            raise DataError(f"{path}: found the token id {ids.min()}; ids are 0 or more")
        return ids
    head = np.fromfile(path, np.int32, 3)
    dtype = _LLM_C.get(int(head[0])) if len(head) == 3 else None
    if dtype is None:
        return np.memmap(path, np.uint16, "r")  # nanoGPT: ids and nothing else
    there = (path.stat().st_size - 4 * _HEADER) // dtype.itemsize
    if there != head[2]:
        raise DataError(f"{path}: its header says {head[2]:,} tokens, found {there:,}; fetch or write the file again")
    found: NDArray[np.integer] = np.memmap(path, dtype, "r", offset=4 * _HEADER)
    return found


def _is_validation(path: Path) -> bool:
    words = path.stem.lower().replace("-", "_").replace(".", "_").split("_")
    return not {"val", "valid", "validation"}.isdisjoint(words)
