"""Prepares a text: splits its documents, tokenises them, and writes both sides as files of tokens."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from testbed.config import Data
from testbed.errors import DataError
from testbed.training.data import first_rules
from testbed.training.data.documents import DatasetDocuments, Documents
from testbed.training.data.inventory import inventory
from testbed.training.data.near_copies import near_copies
from testbed.training.data.shards import IdTokenizer, ShardDocuments
from testbed.training.data.split import LEAST, Piece, Split, cut, survey
from testbed.training.data.spool import Bounded, Spool
from testbed.training.data.text_files import Tally
from testbed.training.data.tokenizers import END, BpeTokenizer, ByteTokenizer, Tokenizer, train_bpe

CUTS = "val-cuts.npy"
_BATCH = 1 << 22  # bytes tokenised at a time
_FIRST_FORMAT, _FORMAT = 2, 3
_WINDOWS = 4  # of the validation that a block holds at least
_BYTES_PER_TOKEN = 4  # of a token of BPE, about

Sides = Iterable[tuple[str, Piece]]


def recipe(config: Data) -> dict[str, Any]:
    """All that decides the prepared tokens, but for the documents."""
    own = {"bpe": config.vocab_size, "max_tokens": config.max_tokens}
    if config.rules == 1:
        return {"format": _FIRST_FORMAT, **own}
    return {"format": _FORMAT, **own, "share": config.val_share, "least": _least_block(config)}


def write_corpus(documents: Documents, config: Data, folder: Path) -> dict[str, Any]:
    """Write the tokens of both sides into `folder`, and return the note about them.

    Raises:
        DataError: The text cannot be read, too much of it cannot, or a side is empty.
    """
    if config.rules == 1:
        return _by_first_rules(documents, config, folder)
    is_text = not isinstance(documents, ShardDocuments)
    bounded = Bounded(documents, _most_bytes(config)) if is_text else documents
    spool = Spool(bounded, folder / "spool") if isinstance(documents, DatasetDocuments) else None
    meta = _by_split(spool or bounded, config, folder, is_text)
    if spool is not None:
        spool.remove()
    return meta


def _by_split(documents: Documents, config: Data, folder: Path, is_text: bool) -> dict[str, Any]:
    split = _surveyed(documents, config, is_text)

    def sides(tally: Tally | None = None) -> Sides:
        tally = tally or Tally()
        if isinstance(documents, ShardDocuments):
            yield from (("val", piece) for piece in cut(documents.validation(tally), None, text=False))
            if documents.val_files:
                yield from (("train", piece) for piece in cut(documents.read(tally), None, text=False))
                return
        yield from split.pieces(documents.read(tally), is_text)

    copies = near_copies(sides) if is_text else frozenset()
    tokenizer = _tokenizer(documents, config, folder, sides)
    writer, tally = _Writer(folder, tokenizer, config.max_tokens, ends=is_text), Tally()
    dropped = [piece.content for side, piece in sides() if piece.lot in copies and side == "val"] if copies else []
    writer.write((side if piece.lot not in copies else "dropped", piece) for side, piece in sides(tally))
    tally.check(config.skip_bad, documents.label)
    writer.require_both(documents.label, tally, config)
    tokens = writer.written | {"dropped": sum(map(len, tokenizer.encode(dropped)))}
    made_of = inventory(tally, split, tokens, dropped[0] if dropped else b"")
    return writer.note(documents.label) | {"made_of": made_of.model_dump(mode="json")}


def _surveyed(documents: Documents, config: Data, is_text: bool) -> Split:
    if isinstance(documents, ShardDocuments) and documents.val_files:
        return Split(config.val_share, None, 0, 0, frozenset(), frozenset())
    first = Tally()
    tallies = [first]
    split = survey(
        lambda: documents.read(tallies.pop() if tallies else Tally()), config.val_share, _least_block(config), is_text
    )
    first.check(config.skip_bad, documents.label)
    return split


def _most_bytes(config: Data) -> float:
    """Bytes of text in which there surely are data.max_tokens tokens for training."""
    if config.max_tokens is None:
        return math.inf
    return 2 * config.max_tokens / (1 - config.val_share) * (1 if config.vocab_size is None else _BYTES_PER_TOKEN)


def _least_block(config: Data) -> int:
    """Bytes of the smallest block, in which some windows fit."""
    return max(LEAST, _WINDOWS * (config.seq_len + 1) * (1 if config.vocab_size is None else _BYTES_PER_TOKEN))


def _tokenizer(documents: Documents, config: Data, folder: Path, sides: Callable[[], Sides]) -> Tokenizer:
    if isinstance(documents, ShardDocuments):
        if config.vocab_size is not None:
            raise DataError(f"{documents.label}: shards of token ids are tokenised already; take data.tokenizer away")
        return IdTokenizer(documents.vocab_size)
    if config.vocab_size is None:
        return ByteTokenizer()
    path = folder / "tokenizer.json"
    train_bpe((piece.content for side, piece in sides() if side == "train"), config.vocab_size, path)
    return BpeTokenizer(path)


class _Writer:
    """The files of tokens of both sides, with their digests; `ends` says whether a token ends each document."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, most: int | None, ends: bool) -> None:
        self._folder, self._tokenizer, self._ends = folder, tokenizer, ends
        self._limit = math.inf if most is None else most
        self._dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
        self._hashes = {"train": hashlib.sha256(), "val": hashlib.sha256()}
        self._cuts: list[int] = []
        self.written = {"train": 0, "val": 0}

    def write(self, sides: Sides) -> None:
        """Write the tokens of every piece, until there are enough for training."""
        with (self._folder / "train.bin").open("wb") as train, (self._folder / "val.bin").open("wb") as val:
            files: dict[str, BinaryIO] = {"train": train, "val": val}
            batches = _batches(_marked(sides), min(_BATCH, self._limit), lambda: self.written["train"] >= self._limit)
            for side, batch in batches:
                encoded = self._tokenizer.encode([piece.content for piece, _ in batch])
                for ids, (piece, goes_on) in zip(encoded, batch, strict=True):
                    if not goes_on:
                        self._cuts += [self.written["val"]] if side == "val" and self.written["val"] else []
                    tokens = (np.append(ids, END) if piece.last and self._ends else ids).astype(self._dtype)
                    files[side].write(tokens.tobytes())
                    self._hashes[side].update(tokens.tobytes())
                    self.written[side] += len(tokens)

    def require_both(self, label: str, tally: Tally | None, config: Data) -> None:
        """DataError where a side is empty."""
        for side, count in self.written.items():
            if count == 0 and tally is None:
                raise DataError(
                    f"{label}: no documents fell into the {side} split (one in {first_rules.VAL_SHARE} goes to validation, "
                    "chosen by hash); give more text"
                )
            if count == 0 and tally is not None:
                left_out = "".join(f", {each.count:,} {reason} left out" for reason, each in tally.left_out.items())
                raise DataError(
                    f"{label}: found {tally.size:,} bytes in {tally.documents:,} documents{left_out}: too few for a part of "
                    f"{100 * config.val_share:g} % for validation beside the training text; give more text, or raise "
                    "data.val_share"
                )

    def note(self, label: str) -> dict[str, Any]:
        """What is noted beside the files."""
        np.save(self._folder / CUTS, np.array(self._cuts, np.int64), allow_pickle=False)
        digests = {f"{side}.bin": content.hexdigest() for side, content in self._hashes.items()}
        for name in ("tokenizer.json", CUTS):
            if (self._folder / name).exists():
                digests[name] = hashlib.sha256((self._folder / name).read_bytes()).hexdigest()
        return {
            "label": label,
            "tokenizer": self._tokenizer.label,
            "vocab_size": self._tokenizer.vocab_size,
            "dtype": self._dtype.name,
            "train_tokens": self.written["train"],
            "val_tokens": self.written["val"],
            "digests": digests,
        }


def _by_first_rules(documents: Documents, config: Data, folder: Path) -> dict[str, Any]:
    def sides() -> Sides:
        for side, document in first_rules.split(documents.read(Tally())):
            yield side, Piece(document, 0, True, True)

    tokenizer = _tokenizer(documents, config, folder, sides)
    writer = _Writer(folder, tokenizer, config.max_tokens, ends=True)
    writer.write(sides())
    writer.require_both(documents.label, None, config)
    return writer.note(documents.label)


def _marked(sides: Sides) -> Iterator[tuple[str, tuple[Piece, bool]]]:
    """Each piece, with whether the text before it on its side is what stands before it, or ends a document there.

    Where the text for training is cut, an empty piece ends the document.
    """
    last: dict[str, Piece] = {}
    previous = ""
    for side, piece in sides:
        if side != "train" and "train" in last and not last["train"].last:
            last["train"] = Piece(b"", 0, first=False, last=True)
            yield "train", (last["train"], True)
        if side != "dropped":
            yield side, (piece, side == previous or (piece.first and side in last and last[side].last))
            last[side] = piece
        previous = side


def _batches(
    sides: Iterable[tuple[str, tuple[Piece, bool]]], size: float, enough: Callable[[], bool]
) -> Iterator[tuple[str, list[tuple[Piece, bool]]]]:
    """Pieces of one side in batches of about `size` bytes, each side in its own order, until `enough()`."""
    waiting: dict[str, list[tuple[Piece, bool]]] = {"train": [], "val": []}
    held = {"train": 0, "val": 0}
    for side, marked in sides:
        waiting[side].append(marked)
        held[side] += len(marked[0].content)
        if held[side] >= size:
            yield side, waiting[side]
            waiting[side], held[side] = [], 0
            if enough():
                break
    for side, batch in waiting.items():
        if batch:
            yield side, batch
