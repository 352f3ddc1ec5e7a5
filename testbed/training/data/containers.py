"""Documents in the rows of files: JSON, JSON lines, CSV, parquet, each also compressed (parquet is by itself)."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from testbed.errors import DataError
from testbed.training.data.text_files import Tally, Undecodable, as_utf8

_CHUNK = 1 << 22
_FIELDS = ("text", "content", "contents", "body", "document", "raw_content", "story", "article", "markdown", "code")
_SEPARATED = {".csv": ",;|\t", ".tsv": "\t"}

Rows = Iterator[tuple[str, Any]]  # the place of each row, and what is in it


class WhichField(DataError):
    """Rows with several fields, none of which is known as the text."""


def inner_suffix(path: Path) -> str:
    """The ending that says what is in a file: ".jsonl" for a.jsonl and for a.jsonl.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_compressed(path: Path) -> bool:
    """Whether the ending says that the file is compressed."""
    return path.suffix.lower() in _COMPRESSED


def unpacked(path: Path) -> BinaryIO:
    """The file, open for reading, and decompressed as its ending says.

    Raises:
        DataError: It cannot be opened.
    """
    try:
        file: BinaryIO = _COMPRESSED.get(path.suffix.lower(), _opened)(path)
        return file
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); make it readable or remove it") from None


def holds_rows(path: Path) -> bool:
    """Whether the ending says that the file holds rows, and not a text."""
    return inner_suffix(path) in _READERS


def row_documents(path: Path, field: str | None, tally: Tally) -> Iterator[bytes]:
    """The documents in the rows of a file: the field `field`, or the one that is found. Rows without text are skipped.

    Raises:
        DataError: The file cannot be read, or it has to be said which field is the text.
    """
    chosen: str | None = None
    known = False
    for place, row in _broken(path, _READERS[inner_suffix(path)](path)):
        if isinstance(row, Mapping):
            if not known:
                chosen = _text_field(place, row, field)
                known = True
                others = [str(name) for name in row if name != chosen]
                tally.remarks.setdefault(
                    f"rows: the text is the field {chosen!r}" + (f", beside {', '.join(others[:8])}" if others else "")
                )
            value, what = row.get(chosen), f"field {chosen!r}"
        else:
            value, what = row, "the row"
        try:
            if isinstance(value, bytes):
                yield as_utf8(value)
            elif isinstance(value, str):
                yield value.encode()
            else:
                missing = isinstance(row, Mapping) and chosen not in row
                tally.skip(f"{place}: {what} {'is missing' if missing else f'is {str(value)[:40]}, not a text'}")
        except (Undecodable, UnicodeEncodeError) as reason:
            tally.skip(f"{place}: {what} is no text ({reason})")


def _text_field(place: str, row: Mapping[str, Any], field: str | None) -> str:
    """The field of the rows that holds the text."""
    names = [str(name) for name in row]
    if field is not None:
        if field in row:
            return field
        raise DataError(
            f"{place}: no field {field!r} (data.text_field); set data.text_field to one of {', '.join(map(repr, names))}"
        )
    usual = {name.lower(): name for name in reversed(names)}
    for name in _FIELDS:
        if name in usual:
            return usual[name]
    texts = [name for name in names if isinstance(row[name], (str, bytes))]
    if len(texts) == 1:
        return texts[0]
    raise WhichField(
        f"{place}: which field is the text? Found {', '.join(map(repr, names)) or 'none'}; set data.text_field to one of them"
    )


def _broken(path: Path, rows: Rows) -> Rows:
    """The rows; DataError where the file is cut off or is not what its ending says."""
    try:
        yield from rows
    except DataError:
        raise
    except (OSError, EOFError, ValueError, csv.Error, lzma.LZMAError) as error:
        raise DataError(f"{path}: cannot be read ({error}); repair or remove it") from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers."""
    with unpacked(path) as file:
        before, rest = 0, b""  # lines before those of the chunk
        while chunk := file.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for number, line in enumerate(lines, before + 1):
                if line.strip():
                    yield number, line
            before += len(lines)
        if rest.strip():
            yield before + 1, rest


def _json_lines(path: Path) -> Rows:
    for number, line in _lines(path):
        place = f"{path}, line {number}"
        try:
            yield place, json.loads(as_utf8(line))
        except (ValueError, RecursionError, Undecodable) as error:
            yield place, _NoRow(error)


class _NoRow:
    """A line in which there is no row; it is counted as a bad document."""

    def __init__(self, reason: Exception) -> None:
        self._reason = reason

    def __str__(self) -> str:
        return f"no JSON ({self._reason})"


def _json(path: Path) -> Rows:
    with unpacked(path) as file:
        content = file.read()
    try:
        found = json.loads(as_utf8(content))
    except (ValueError, RecursionError, Undecodable) as error:
        if b"\n" in content.strip():  # JSON lines under this ending
            yield from _json_lines(path)
            return
        raise DataError(f"{path}: not JSON ({error}); repair or remove it") from None
    if isinstance(found, dict):
        found = _rows_of(found)
    if not isinstance(found, list):
        found = [found]
    for number, row in enumerate(found):
        yield f"{path}, entry {number}", row


def _rows_of(found: dict[str, Any]) -> list[Any]:
    """The rows in an object: its lists as columns, its one list of objects, or itself."""
    lists = [value for value in found.values() if isinstance(value, list)]
    records = [value for value in lists if value and isinstance(value[0], dict)]
    if lists and not records and len(lists) == len(found) and len(set(map(len, lists))) == 1:
        return [dict(zip(found, values, strict=True)) for values in zip(*lists, strict=True)]
    return records[0] if len(records) == 1 else [found]


def _csv(path: Path) -> Rows:
    csv.field_size_limit(1 << 30)
    with io.TextIOWrapper(unpacked(path), "utf-8-sig", errors="surrogateescape", newline="") as file:
        header = file.readline()
        separator = max(_SEPARATED[inner_suffix(path)], key=header.count)
        names = next(csv.reader([header], delimiter=separator), [])
        for number, values in enumerate(csv.reader(file, delimiter=separator), 2):
            if values:
                row = {name: value or None for name, value in zip(names, values, strict=False)}
                yield f"{path}, row {number}", {key: _unescaped(value) for key, value in row.items()}


def _unescaped(value: str | None) -> str | bytes | None:
    """Bytes where the text was not UTF-8, so that it is noticed."""
    if value is None or value.isascii():
        return value
    content = value.encode("utf-8", errors="surrogateescape")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _parquet(path: Path) -> Rows:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(f"{path}: needs the package pyarrow: pip install pyarrow") from None
    number = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(1024):
            for row in batch.to_pylist():
                yield f"{path}, row {number}", row
                number += 1


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


def _zstd(path: Path) -> BinaryIO:
    try:
        import pyarrow
    except ImportError:
        raise DataError(f"{path}: needs the package pyarrow to decompress it: pip install pyarrow") from None
    stream: BinaryIO = pyarrow.input_stream(str(path), compression="zstd")
    return stream


_COMPRESSED: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstd,
}
_READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
