"""A text corpus on disk: documents split, tokenised and cached once, then memory-mapped.

They are kept in the cache (see `cache`). An entry is named by the hash of its documents
and tokenizer, so a changed text makes a new entry. Files are checked against their digests whenever they
are opened; a damaged or replaced file is prepared again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from testbed.config import Data
from testbed.errors import DataError, DiskError
from testbed.files import building, digest, not_writable, write_json
from testbed.training.data.cache import ANOTHER_CACHE, cache_folder
from testbed.training.data.documents import Documents
from testbed.training.data.tokenizers import END, BpeTokenizer, ByteTokenizer, Tokenizer, train_bpe

_FORMAT = 2
_BATCH = 1 << 22  # bytes tokenised at a time
_VAL_SHARE = 20  # one document in 20 is kept for validation

_log = logging.getLogger("testbed")


class Damaged(Exception):
    """A prepared file differs from what was written; the message names it."""


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
    """The tokenised corpus, from the cache if an intact copy is there.

    Raises:
        DataError: the cached copy is damaged and the documents can no longer be read.
    """
    recipe = {"format": _FORMAT, "bpe": config.vocab_size, "max_tokens": config.max_tokens}
    folder = cache_folder() / f"corpus-{digest({**recipe, 'documents': documents.key()})[:24]}"
    if folder.exists():
        try:
            return _open(documents.label, folder)
        except Damaged as reason:
            _log.warning("%s; preparing these tokens again from %s", reason, documents.label)
            _clear_away(folder)
            try:
                _build(documents, config, folder)
            except DataError as error:
                raise DataError(f"{reason}, and they cannot be prepared again: {error}") from None
    else:
        _build(documents, config, folder)
    try:
        return _open(documents.label, folder)
    except Damaged as reason:
        raise DataError(
            f"{reason}, although it was just written; check the disk, or set TESTBED_CACHE to a folder on another one"
        ) from None


def check_file(path: Path, sha256: str) -> None:
    """Raise Damaged if the SHA-256 of the file at `path` differs; about 0.1 s for 100 MB."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror})") from None
    if found != sha256:
        raise Damaged(f"{path}: damaged or foreign (its content does not match its digest)")


def write_note(path: Path, value: dict[str, Any]) -> None:
    """Write JSON values with their digest."""
    write_json(path, value | {"digest": digest(value)}, ANOTHER_CACHE)


def read_note(path: Path) -> dict[str, Any]:
    """The values that `write_note` wrote; raises Damaged if the file differs from them."""
    try:
        value: dict[str, Any] = json.loads(path.read_text())
        written = value.pop("digest")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Damaged(f"{path}: damaged ({error})") from None
    if written != digest(value):
        raise Damaged(f"{path}: damaged (its content does not match its digest)")
    return value


def _open(label: str, folder: Path) -> Corpus:
    meta = read_note(folder / "meta.json")
    dtype, digests = np.dtype(meta["dtype"]), meta["digests"]
    for name, sha256 in digests.items():
        check_file(folder / name, sha256)
    tokenizer: Tokenizer = ByteTokenizer() if meta["tokenizer"] == "bytes" else BpeTokenizer(folder / "tokenizer.json")
    train = np.memmap(folder / "train.bin", dtype, "r")
    val = np.memmap(folder / "val.bin", dtype, "r")
    return Corpus(folder, label, tokenizer, train, val, digests["train.bin"])


def _clear_away(folder: Path) -> None:
    """Move the damaged entry aside; processes that have it mapped keep reading it."""
    try:
        folder.rename(Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)) / "damaged")
    except OSError as error:
        if folder.exists():  # otherwise another process moved it
            raise not_writable(folder, error, ANOTHER_CACHE) from error
    for damaged in folder.parent.glob(f".{folder.name}.*/damaged"):
        shutil.rmtree(damaged.parent, ignore_errors=True)


def _build(documents: Documents, config: Data, folder: Path) -> None:
    try:
        with building(folder, ANOTHER_CACHE) as temporary:
            tokenizer = _make_tokenizer(documents, config, temporary)
            _write_tokens(documents, tokenizer, config, temporary)
    except DiskError:
        if not (folder / "meta.json").exists():  # otherwise another process built the same corpus first
            raise


def _make_tokenizer(documents: Documents, config: Data, folder: Path) -> Tokenizer:
    if config.vocab_size is None:
        return ByteTokenizer()
    path = folder / "tokenizer.json"
    train_bpe((text for split, text in _split(documents) if split == "train"), config.vocab_size, path)
    return BpeTokenizer(path)


def _write_tokens(documents: Documents, tokenizer: Tokenizer, config: Data, folder: Path) -> None:
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
    written = {"train": 0, "val": 0}
    hashes = {"train": hashlib.sha256(), "val": hashlib.sha256()}
    limit = math.inf if config.max_tokens is None else config.max_tokens
    with (folder / "train.bin").open("wb") as train, (folder / "val.bin").open("wb") as val:
        files: dict[str, BinaryIO] = {"train": train, "val": val}
        for split, batch in _batches(_split(documents), min(_BATCH, limit), lambda: written["train"] >= limit):
            for ids in tokenizer.encode(batch):
                tokens = np.append(ids, END).astype(dtype)
                files[split].write(tokens.tobytes())
                hashes[split].update(tokens.tobytes())
                written[split] += len(tokens)
    for split, count in written.items():
        if count == 0:
            raise DataError(
                f"{documents.label}: no documents fell into the {split} split (one in {_VAL_SHARE} goes to validation, "
                "chosen by hash); give more text"
            )
    digests = {f"{split}.bin": content.hexdigest() for split, content in hashes.items()}
    if (folder / "tokenizer.json").exists():
        digests["tokenizer.json"] = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    write_note(
        folder / "meta.json",
        {
            "label": documents.label,
            "tokenizer": tokenizer.label,
            "dtype": dtype.name,
            "train_tokens": written["train"],
            "val_tokens": written["val"],
            "digests": digests,
        },
    )


def _split(documents: Documents) -> Iterator[tuple[str, bytes]]:
    """Each document with its split, by the hash of its content: copies of a document are on one side."""
    for document in documents:
        lot = int.from_bytes(hashlib.sha256(document).digest()[-4:], "big")
        yield ("val" if lot % _VAL_SHARE == 0 else "train"), document


def _batches(
    documents: Iterator[tuple[str, bytes]], size: float, enough: Callable[[], bool]
) -> Iterator[tuple[str, list[bytes]]]:
    """Documents of one split in batches of about `size` bytes, each split in its own order, until `enough()`."""
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
