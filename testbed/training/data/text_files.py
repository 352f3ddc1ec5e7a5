"""Reads the files of a text: which ones there are, what is left out and why, and their content as UTF-8."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from testbed.errors import DataError

_LOOKED_AT = 1 << 13  # bytes at a file's start in which a zero byte says that it is no text
_MAGIC = (b"%PDF-", b"PK\x03\x04", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x7fELF", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
_MARKS = (  # the longer ones first: that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Undecodable(Exception):
    """A document that is no text; the message says why."""


@dataclass
class LeftOut:
    """How many files or documents were left out for one reason, and the first of them."""

    count: int
    first: str


@dataclass
class Tally:
    """What one pass over a text met; `bad` are the documents that could not be read, `left_out` what no document is in."""

    files: int = 0
    documents: int = 0
    size: int = 0  # bytes of all documents
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    bad: LeftOut | None = None
    remarks: dict[str, None] = field(default_factory=dict)

    def leave_out(self, reason: str, what: object) -> None:
        """Count something that is no part of the text."""
        self.left_out.setdefault(reason, LeftOut(0, str(what))).count += 1

    def skip(self, reason: str) -> None:
        """Count a document that cannot be read; `reason` begins with its place."""
        self.bad = self.bad or LeftOut(0, reason)
        self.bad.count += 1

    def become(self, other: Tally) -> None:
        """Take over all that `other` has counted."""
        self.files, self.documents, self.size = other.files, other.documents, other.size
        self.left_out, self.bad, self.remarks = dict(other.left_out), other.bad, dict(other.remarks)

    def took(self, document: bytes) -> bytes:
        """Count a document, and return it."""
        self.documents += 1
        self.size += len(document)
        return document

    def check(self, allowed: float, label: str) -> None:
        """DataError where more documents are bad than data.skip_bad allows: a share below 1, or a count."""
        if self.bad is None:
            return
        every = self.documents + self.bad.count
        if self.bad.count > (allowed * every if allowed < 1 else allowed):
            count = (
                f"{self.bad.count:,} of {every:,} documents cannot be read" if self.bad.count > 1 else "cannot be read"
            )
            raise DataError(
                f"{label}: {count}, and data.skip_bad = {allowed:g} allows fewer; the first is {self.bad.first}. Convert or "
                f"remove it, or pass over so many with data.skip_bad = {self.bad.count} (a share below 1 or a count)"
            )


def read_file(path: Path) -> bytes:
    """The content of a file; DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it readable or remove it") from None


def is_binary(head: bytes) -> bool:
    """Whether a file that begins with `head` is no text in any encoding that is read."""
    if any(head.startswith(mark) for mark, _ in _MARKS):
        return False
    return b"\0" in head[:_LOOKED_AT] or head.startswith(_MAGIC)


def as_utf8(content: bytes) -> bytes:
    """A text as UTF-8 without a byte order mark; UTF-16 and UTF-32 are read where a mark names them.

    Raises:
        Undecodable: It is none of those.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            try:
                return content.decode(encoding).encode()
            except UnicodeError as error:
                raise Undecodable(
                    f"not {encoding.removesuffix('-sig').upper()}, as its first bytes say ({error})"
                ) from None
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Undecodable(f"not UTF-8 at byte {error.start}; text sources are UTF-8") from None
    return content


def walk(root: Path, skip: frozenset[str], tally: Tally) -> list[Path]:
    """Every file below `root`, sorted by path, links followed; hidden ones and folders named in `skip` are left out."""
    found: list[Path] = []
    seen = {_place(root)}
    for folder, below, files in os.walk(root, followlinks=True):
        kept = []
        for name in sorted(below):
            path = Path(folder, name)
            if name in skip:
                continue
            if name.startswith("."):
                tally.leave_out("hidden folders", path)
            elif (place := _place(path)) in seen:
                tally.leave_out("links to a folder that is read already", path)
            else:
                seen.add(place)
                kept.append(name)
        below[:] = kept
        found += _plain(Path(folder), files, tally)
    return sorted(found, key=str)


def _plain(folder: Path, names: list[str], tally: Tally) -> Iterator[Path]:
    for name in names:
        path = folder / name
        if name.startswith("."):
            tally.leave_out("hidden files", path)
        elif path.is_file():
            yield path
        elif path.is_symlink():
            tally.leave_out("links to nothing", path)
        else:
            tally.leave_out("pipes and devices", path)


def _place(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); make it readable or remove it") from None
    return found.st_dev, found.st_ino
