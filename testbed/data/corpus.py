"""A text corpus on disk: documents split, tokenised and cached once, then memory-mapped.

The cache folder is `$TESTBED_CACHE` or ~/.cache/testbed; an entry is named by the hash of its
documents and tokenizer, so a changed text makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from testbed.config import Data
from testbed.data.documents import Documents
from testbed.data.tokenizers import END, BpeTokenizer, ByteTokenizer, Tokenizer, train_bpe
from testbed.errors import DataError
from testbed.files import digest, not_writable, write_json

_FORMAT = 1
_BATCH = 1 << 22  # bytes that are tokenised at a time
_VAL_SHARE = 20  # one document in so many is kept for validation


@dataclass(frozen=True)
class Corpus:
    """Memory-mapped tokens [n], uint16 or uint32, of the training and the validation split."""

    folder: Path
    label: str
    tokenizer: Tokenizer
    train: NDArray[np.integer]
    val: NDArray[np.integer]
    train_sha256: str


def prepare(documents: Documents, config: Data) -> Corpus:
    """The tokenised corpus, from the cache where it lies there already."""
    recipe = {"format": _FORMAT, "bpe": config.vocab_size, "max_tokens": config.max_tokens}
    folder = cache_folder() / f"corpus-{digest({**recipe, 'documents': documents.key()})[:24]}"
    if not (folder / "meta.json").exists():
        _build(documents, config, folder)
    return _open(documents.label, folder)


def cache_folder() -> Path:
    """Where prepared tokens are kept."""
    return Path(os.environ.get("TESTBED_CACHE") or Path.home() / ".cache" / "testbed")


def _open(label: str, folder: Path) -> Corpus:
    meta = json.loads((folder / "meta.json").read_text())
    dtype = np.dtype(meta["dtype"])
    for split in ("train", "val"):
        size = (folder / f"{split}.bin").stat().st_size
        if size != meta[f"{split}_tokens"] * dtype.itemsize:
            raise DataError(f"{folder}: {split}.bin has {size} bytes, not what meta.json says; delete the folder")
    tokenizer: Tokenizer = ByteTokenizer() if meta["tokenizer"] == "bytes" else BpeTokenizer(folder / "tokenizer.json")
    train = np.memmap(folder / "train.bin", dtype, "r")
    val = np.memmap(folder / "val.bin", dtype, "r")
    return Corpus(folder, label, tokenizer, train, val, meta["train_sha256"])


def _build(documents: Documents, config: Data, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise not_writable(folder, error) from error
    try:
        tokenizer = _make_tokenizer(documents, config, building)
        _write_tokens(documents, tokenizer, config, building)
        try:
            building.rename(folder)
        except OSError:
            if not (folder / "meta.json").exists():  # else another process built the same corpus first
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _make_tokenizer(documents: Documents, config: Data, folder: Path) -> Tokenizer:
    if config.vocab_size is None:
        return ByteTokenizer()
    path = folder / "tokenizer.json"
    train_bpe((text for split, text in _split(documents) if split == "train"), config.vocab_size, path)
    return BpeTokenizer(path)


def _write_tokens(documents: Documents, tokenizer: Tokenizer, config: Data, folder: Path) -> None:
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
    written = {"train": 0, "val": 0}
    train_hash = hashlib.sha256()
    limit = math.inf if config.max_tokens is None else config.max_tokens
    with (folder / "train.bin").open("wb") as train, (folder / "val.bin").open("wb") as val:
        files: dict[str, BinaryIO] = {"train": train, "val": val}
        for split, batch in _batches(_split(documents), min(_BATCH, limit), lambda: written["train"] >= limit):
            for ids in tokenizer.encode(batch):
                tokens = np.append(ids, END).astype(dtype)
                files[split].write(tokens.tobytes())
                written[split] += len(tokens)
                if split == "train":
                    train_hash.update(tokens.tobytes())
    for split, count in written.items():
        if count == 0:
            raise DataError(
                f"{documents.label}: no documents fell into the {split} split (one in {_VAL_SHARE} goes to validation, "
                "chosen by hash); give more text"
            )
    write_json(
        folder / "meta.json",
        {
            "label": documents.label,
            "tokenizer": tokenizer.label,
            "dtype": dtype.name,
            "train_tokens": written["train"],
            "val_tokens": written["val"],
            "train_sha256": train_hash.hexdigest(),
        },
    )


def _split(documents: Documents) -> Iterator[tuple[str, bytes]]:
    """Each document with its split, by the hash of its content: copies never stand on both sides."""
    for document in documents:
        lot = int.from_bytes(hashlib.sha256(document).digest()[-4:], "big")
        yield ("val" if lot % _VAL_SHARE == 0 else "train"), document


def _batches(
    documents: Iterator[tuple[str, bytes]], size: float, enough: Callable[[], bool]
) -> Iterator[tuple[str, list[bytes]]]:
    """Documents of one split in batches of about `size` bytes, each split in its own order, until there are enough."""
    waiting: dict[str, list[bytes]] = {"train": [], "val": []}
    held = {"train": 0, "val": 0}
    for split, document in documents:
        waiting[split].append(document)
        held[split] += len(document)
        if held[split] >= size:
            yield split, waiting[split]
            waiting[split], held[split] = [], 0
            if enough():
                break
    for split, batch in waiting.items():
        if batch:
            yield split, batch
