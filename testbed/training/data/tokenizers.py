"""Tokenizers: bytes or byte-level BPE, with the number of bytes that each id stands for.

Id 0 ends a document: the zero byte for "bytes", a special token for "bpe".
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from testbed.errors import DataError

END = 0
_END_TEXT = "<|endoftext|>"
_TRAINING_BYTES = 64_000_000


class Tokenizer(Protocol):
    """Maps text to ids; id 0 ends a document."""

    label: str
    vocab_size: int

    def encode(self, documents: list[bytes]) -> list[NDArray[np.integer]]:
        """Ids of each document, without the document end."""
        ...

    def byte_lengths(self) -> NDArray[np.int64] | None:
        """Bytes of text that each id stands for [vocab_size]; 0 for the document end of "bpe"; None where that is unknown."""
        ...

    def as_json(self) -> str:
        """This tokenizer as a JSON document of the `tokenizers` library."""
        ...


class ByteTokenizer:
    """One token per byte, 256 ids."""

    label = "bytes"
    vocab_size = 256

    def encode(self, documents: list[bytes]) -> list[NDArray[np.integer]]:
        """The bytes of each document as ids."""
        return [np.frombuffer(document, np.uint8) for document in documents]

    def byte_lengths(self) -> NDArray[np.int64]:
        """One byte for each of the 256 ids."""
        return np.ones(256, np.int64)

    def as_json(self) -> str:
        """A byte-level BPE without merges, in which each of the 256 letters has the id of its byte."""
        from tokenizers import Tokenizer as Library
        from tokenizers import decoders, models, pre_tokenizers

        library = Library(models.BPE(vocab={letter: byte for byte, letter in enumerate(_byte_letters())}, merges=[]))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        library.decoder = decoders.ByteLevel()
        document: str = library.to_str()
        return document


class BpeTokenizer:
    """Byte-level BPE of the `tokenizers` library, from its JSON file."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Library

        self._library = Library.from_file(str(path))
        self.vocab_size = self._library.get_vocab_size()
        self.label = f"bpe:{self.vocab_size}"

    def encode(self, documents: list[bytes]) -> list[NDArray[np.integer]]:
        """Ids of each document by the trained merges."""
        texts = [document.decode("utf-8") for document in documents]
        return [np.array(e.ids, np.uint32) for e in self._library.encode_batch_fast(texts, add_special_tokens=False)]

    def byte_lengths(self) -> NDArray[np.int64]:
        """Bytes of each id: in the byte-level alphabet every character of a token stands for one byte."""
        lengths = np.zeros(self.vocab_size, np.int64)
        for name, index in self._library.get_vocab().items():
            lengths[index] = 0 if name == _END_TEXT else len(name)
        return lengths

    def as_json(self) -> str:
        """The content of its file."""
        document: str = self._library.to_str()
        return document


def train_bpe(documents: Iterable[bytes], vocab_size: int, path: Path) -> None:
    """Train BPE on the first 64 MB of `documents` and write the tokenizer's JSON to `path`.

    Raises:
        DataError: the text has too few merges for `vocab_size`.
    """
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[_END_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(_first_bytes(documents), trainer)
    if library.get_vocab_size() != vocab_size:
        raise DataError(
            f"data.vocab_size: found {vocab_size}, but the text has merges for only {library.get_vocab_size()} ids; "
            "lower it or give more text"
        )
    library.save(str(path))


def _byte_letters() -> list[str]:
    """The letter of each byte in the byte-level alphabet: printing bytes stand for themselves, others follow from 256."""
    printing = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printing else next(others)) for byte in range(256)]


def _first_bytes(documents: Iterable[bytes]) -> Iterable[str]:
    left = _TRAINING_BYTES
    for document in islice(documents, None):
        yield document.decode("utf-8")
        left -= len(document)
        if left <= 0:
            return
