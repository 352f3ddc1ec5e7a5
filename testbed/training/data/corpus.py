"""A text corpus on disk: prepared once (see `preparing`), then memory-mapped.

They are kept in the cache (see `cache`). An entry is named by the hash of its documents
and tokenizer, so a changed text makes a new entry. Files are checked against their digests whenever they
are opened; a damaged or replaced file is prepared again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.config import Data
from testbed.errors import DataError, DiskError
from testbed.files import building, digest, not_writable, write_json
from testbed.training.data.cache import ANOTHER_CACHE, cache_folder
from testbed.training.data.documents import Documents
from testbed.training.data.inventory import Inventory
from testbed.training.data.preparing import CUTS, recipe, write_corpus
from testbed.training.data.shards import IdTokenizer
from testbed.training.data.tokenizers import BpeTokenizer, ByteTokenizer, Tokenizer

_log = logging.getLogger("testbed")


class Damaged(Exception):
    """A prepared file differs from what was written; the message names it."""


@dataclass(frozen=True)
class Corpus:
    """Memory-mapped tokens [n], uint16 or uint32, of the training and the validation split.

    At the positions `val_cuts` of `val` the text does not go on: what stands before each is from another place. `made_of`
    is what the preparation has found (see `Inventory`), None under the rules of the first format.
    """

    folder: Path
    label: str
    tokenizer: Tokenizer
    train: NDArray[np.integer]
    val: NDArray[np.integer]
    train_sha256: str
    val_cuts: NDArray[np.int64]
    made_of: Inventory | None


def prepare(documents: Documents, config: Data) -> Corpus:
    """The tokenised corpus, from the cache if an intact copy is there.

    Raises:
        DataError: the cached copy is damaged and the documents can no longer be read.
    """
    folder = cache_folder() / f"corpus-{digest({**recipe(config), 'documents': documents.key()})[:24]}"
    corpus = _prepared(documents, config, folder)
    if corpus.made_of is not None:
        corpus.made_of.check(config.skip_bad, documents.label)
    return corpus


def _prepared(documents: Documents, config: Data, folder: Path) -> Corpus:
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
    tokenizer: Tokenizer
    if meta["tokenizer"] == "ids":
        tokenizer = IdTokenizer(meta["vocab_size"])
    else:
        tokenizer = ByteTokenizer() if meta["tokenizer"] == "bytes" else BpeTokenizer(folder / "tokenizer.json")
    cuts = np.load(folder / CUTS, allow_pickle=False) if CUTS in digests else np.empty(0, np.int64)
    made_of = Inventory.model_validate(meta["made_of"]) if "made_of" in meta else None
    train = np.memmap(folder / "train.bin", dtype, "r")
    val = np.memmap(folder / "val.bin", dtype, "r")
    return Corpus(folder, label, tokenizer, train, val, digests["train.bin"], cuts, made_of)


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
            write_note(temporary / "meta.json", write_corpus(documents, config, temporary))
    except DiskError:
        if not (folder / "meta.json").exists():  # otherwise another process built the same corpus first
            raise
