"""Bounds the documents that are read for a number of tokens, and keeps a streamed dataset, which is read once, on disk."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from testbed.training.data.documents import Documents
from testbed.training.data.text_files import Tally

_SIZE = struct.Struct("<q")


class Bounded:
    """The first documents, until they have `most` bytes."""

    def __init__(self, documents: Documents, most: float) -> None:
        self.label = documents.label
        self._documents, self._most = documents, most

    def key(self) -> str:
        """That of all documents."""
        return self._documents.key()

    def read(self, tally: Tally) -> Iterator[bytes]:
        """The documents, counted in `tally`."""
        for document in self._documents.read(tally):
            yield document
            if tally.size >= self._most:
                break


class Spool:
    """Documents that are read once and kept in a file, from which they can be read again."""

    def __init__(self, documents: Documents, path: Path) -> None:
        """Reads all documents."""
        self.label = documents.label
        self._key, self._path, self._tally = documents.key, path, Tally()
        with path.open("wb") as file:
            for document in documents.read(self._tally):
                file.write(_SIZE.pack(len(document)) + document)

    def key(self) -> str:
        """That of the documents."""
        return self._key()

    def read(self, tally: Tally) -> Iterator[bytes]:
        """The documents; `tally` gets what was counted when they were read."""
        tally.become(self._tally)
        with self._path.open("rb") as file:
            while size := file.read(_SIZE.size):
                yield file.read(_SIZE.unpack(size)[0])

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink()
