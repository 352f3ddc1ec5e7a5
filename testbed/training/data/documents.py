"""Documents of a text source, in a fixed order: files, the interpreter's own source, or a dataset.

Only reads text; the corpus splits and tokenises it.
"""

from __future__ import annotations

import glob
import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from testbed.config import Data, HuggingFace
from testbed.errors import DataError
from testbed.files import digest
from testbed.training.data import first_rules
from testbed.training.data.containers import (
    WhichField,
    holds_rows,
    inner_suffix,
    is_compressed,
    row_documents,
    unpacked,
)
from testbed.training.data.separators import recognised, separated
from testbed.training.data.shards import ShardDocuments, is_shard
from testbed.training.data.text_files import Tally, Undecodable, as_utf8, is_binary, read_file, walk

_STDLIB_SKIP = frozenset({"site-packages", "dist-packages", "__pycache__", "pydoc_data", "lib2to3", "encodings"})
_STDLIB_LEAST = 10_000_000
_HEAD = 1 << 13
_ENDS = "documents end at"


class Documents(Protocol):
    """Documents in a fixed order: UTF-8, or the token ids of shards as they are in memory."""

    label: str

    def key(self) -> str:
        """A hash that changes when the documents do."""
        ...

    def read(self, tally: Tally) -> Iterator[bytes]:
        """The documents; what is met on the way, and what is left out of them, is counted in `tally`."""
        ...


class FileDocuments:
    """The documents of files: texts and containers, by their endings; `label` names the source in messages."""

    def __init__(self, label: str, files: list[Path], found: Tally, config: Data, lenient: bool = False) -> None:
        """`found` counts what the search for files left out; `lenient` leaves out whatever is no text."""
        self.label = label
        self._files, self._found, self._lenient = files, found, lenient
        self._field, self._separator = config.text_field, config.separator

    def key(self) -> str:
        """SHA-256 over the endings and contents of all files, in order, and over how they are read."""
        total = hashlib.sha256(f"{self._field!r} {self._separator!r}".encode())
        for path in self._files:
            total.update(inner_suffix(path).encode() if holds_rows(path) else b"")
            total.update(hashlib.sha256(read_file(path)).digest())
        return total.hexdigest()

    def read(self, tally: Tally) -> Iterator[bytes]:
        """Every document of every file."""
        for reason, left_out in self._found.left_out.items():
            tally.left_out[reason] = left_out
        for path in self._files:
            for document in self._documents(path, tally):
                if document:
                    yield tally.took(document)
        if self._field is not None and not any(holds_rows(path) for path in self._files):
            raise DataError(f"{self.label}: data.text_field = {self._field!r}, but no file has fields; take it away")
        if self._separator and not any(remark.startswith(_ENDS) for remark in tally.remarks):
            raise DataError(
                f"{self.label}: data.separator = {self._separator!r} stands nowhere in the text; correct it or take it away"
            )

    def _documents(self, path: Path, tally: Tally) -> Iterator[bytes]:
        if holds_rows(path):
            tally.files += 1
            try:
                yield from row_documents(path, self._field, tally)
            except WhichField:
                if len(self._files) == 1 or inner_suffix(path) != ".json":
                    raise
                tally.files -= 1
                tally.leave_out("JSON files without a field that is known as text", path)
            return
        if is_compressed(path):
            with unpacked(path) as file:
                content = file.read()
        else:
            content = read_file(path)
        if is_binary(content[:_HEAD]):
            if len(self._files) == 1 and not self._lenient:
                raise DataError(f"{path}: a binary file; give UTF-8 text, JSON lines, JSON, CSV or parquet")
            tally.leave_out("binary files", path)
            return
        try:
            text = as_utf8(content)
        except Undecodable as reason:
            if self._lenient:
                tally.leave_out("files that are not UTF-8", path)
            else:
                tally.skip(f"{path}: {reason}")
            return
        tally.files += 1
        separator = recognised(text) if self._separator is None else self._separator.encode()
        if not separator:
            yield text
            return
        if separator in text:
            tally.remarks.setdefault(f"{_ENDS} {separator.decode()!r}, which is no part of the text")
        yield from separated(text, separator)


class DatasetDocuments:
    """A dataset of the `datasets` library, streamed or local; the library is imported when it is used."""

    def __init__(self, name: str, options: HuggingFace) -> None:
        self.label = f"hf:{name}"
        self._name, self._options = name, options

    def key(self) -> str:
        """A hash of the options of the request, and of the contents of local files."""
        files = [
            hashlib.sha256(read_file(Path(f))).hexdigest() for f in self._options.data_files or () if Path(f).is_file()
        ]
        return digest({"name": self._name, "options": self._options.model_dump(mode="json"), "files": files})

    def read(self, tally: Tally) -> Iterator[bytes]:
        """The text of every row; rows without one are skipped."""
        field = self._options.field
        try:
            for number, row in enumerate(self._load()):
                if field not in row:
                    raise DataError(
                        f"{self.label}: row {number} has no field {field!r}; set data.hf.field to one of "
                        + ", ".join(map(repr, row))
                    )
                text = row[field]
                if isinstance(text, str):
                    yield tally.took(text.encode("utf-8", errors="strict"))
                else:
                    tally.skip(f"row {number}: field {field!r} is {text!r:.40}, not a text")
        except DataError:
            raise
        except Exception as error:  # the library raises many kinds; the user needs which dataset and why
            raise DataError(
                f"{self.label}: cannot be read ({type(error).__name__}: {error}); check the name, [data.hf] and the network"
            ) from error

    def _load(self) -> Any:
        try:
            import datasets
        except ImportError:
            raise DataError(
                f"{self.label}: needs the package datasets, part of the extra [text]: pip install datasets"
            ) from None
        options = self._options
        return datasets.load_dataset(
            self._name,
            options.subset,
            split=options.split,
            streaming=options.streaming,
            data_files=list(options.data_files) if options.data_files else None,
        )


def open_documents(config: Data) -> Documents:
    """The documents that `data.source` names ("text:stdlib", "text:PATH", "hf:NAME")."""
    kind, _, name = config.source.partition(":")
    if kind == "hf":
        return DatasetDocuments(name, config.hf or HuggingFace())
    if name == "stdlib":
        return _stdlib(config)
    return first_rules.plain_files(name) if config.rules == 1 else _files(name, config)


def _stdlib(config: Data) -> Documents:
    """The running interpreter's own library source (about 25 MB, PSF licence)."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in first_rules.walk(root, _STDLIB_SKIP) if path.suffix == ".py"]
    found = sum(path.stat().st_size for path in files)
    if found < _STDLIB_LEAST:
        raise DataError(
            f"text:stdlib: found {found / 1e6:.1f} MB of source below {root}, at least {_STDLIB_LEAST / 1e6:.0f} MB are "
            "needed; install the interpreter's full library (python3-full, libpython3-testsuite), or use "
            'source = "text:PATH" or "synthetic:zipf"'
        )
    if config.rules == 1:
        return first_rules.PlainFiles("text:stdlib", files, skip_undecodable=True)
    return FileDocuments("text:stdlib", files, Tally(), config, lenient=True)


def _files(name: str, config: Data) -> Documents:
    """The files of "text:NAME": a file, a folder of them, or a pattern such as corpus/*.jsonl."""
    label, found = f"text:{name}", Tally()
    accepted = "give a UTF-8 text file, a folder of them, or a pattern such as corpus/*.jsonl"
    try:
        path = Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
        matches = [] if is_file or is_folder else sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - the pattern may be absolute
    except (OSError, RuntimeError, ValueError):  # not a valid file name, or the home of an unknown user
        is_file = is_folder = False
        matches = []
    if is_file:
        files = [path]
    elif is_folder:
        files = walk(path, frozenset(), found)
    else:
        files = [Path(match) for match in matches if Path(match).is_file()]
    if not files:
        if not is_folder:
            raise DataError(f"{label}: no such file or folder; {accepted}")
        left_out = ", ".join(f"{each.count} {reason}" for reason, each in found.left_out.items())
        raise DataError(f"{label}: the folder holds no files{f' but {left_out}' if left_out else ''}; {accepted}")
    shards = [path for path in files if is_shard(path)]
    if sum(path.stat().st_size for path in shards) * 2 > sum(path.stat().st_size for path in files):
        for path in files:
            if path not in shards:
                found.leave_out("files beside the shards of tokens", path)
        return ShardDocuments(label, shards, found)
    return FileDocuments(label, files, found, config)
