"""Documents of a text source, in a fixed order: files, the interpreter's own source, or a dataset.

Only reads text; the corpus splits and tokenises it.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from testbed.config import Data, HuggingFace
from testbed.errors import DataError
from testbed.files import digest

_BLOCK = 1 << 18  # longer files are cut at line ends into documents of about this many bytes
_STDLIB_SKIP = {"site-packages", "dist-packages", "__pycache__", "pydoc_data", "lib2to3", "encodings"}
_STDLIB_LEAST = 10_000_000


class Documents(Protocol):
    """UTF-8 documents in a fixed order."""

    label: str

    def key(self) -> str:
        """A hash that changes when the documents do."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...


class FileDocuments:
    """The documents of text files; `label` names the source in messages and records."""

    def __init__(self, label: str, files: list[Path], skip_undecodable: bool = False) -> None:
        self.label = label
        self._files = files
        self._skip = skip_undecodable

    def key(self) -> str:
        """SHA-256 over the contents of all files, in order."""
        total = hashlib.sha256()
        for path in self._files:
            total.update(hashlib.sha256(_read(path)).digest())
        return total.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        for path in self._files:
            content = _read(path)
            try:
                content.decode("utf-8")
            except UnicodeDecodeError as error:
                if self._skip:
                    continue
                raise DataError(
                    f"{path}: not UTF-8 at byte {error.start}; text sources are UTF-8, convert or remove the file"
                ) from None
            yield from _blocks(content)


class DatasetDocuments:
    """A dataset of the `datasets` library, streamed or local; the library is imported when it is used."""

    def __init__(self, name: str, options: HuggingFace) -> None:
        self.label = f"hf:{name}"
        self._name, self._options = name, options

    def key(self) -> str:
        """A hash of the options of the request, and of the contents of local files."""
        files = [
            hashlib.sha256(_read(Path(f))).hexdigest() for f in self._options.data_files or () if Path(f).is_file()
        ]
        return digest({"name": self._name, "options": self._options.model_dump(mode="json"), "files": files})

    def __iter__(self) -> Iterator[bytes]:
        options = self._options
        try:
            for number, row in enumerate(self._load()):
                if options.field not in row:
                    raise DataError(
                        f"{self.label}: row {number} has no field {options.field!r}; set data.hf.field to one of "
                        + ", ".join(map(repr, row))
                    )
                text = row[options.field]
                if not isinstance(text, str):
                    raise DataError(f"{self.label}: row {number}, field {options.field!r} is {text!r}, not a text")
                yield text.encode("utf-8", errors="strict")
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
        return _stdlib()
    return _files(name)


def _stdlib() -> FileDocuments:
    """The running interpreter's own library source (about 25 MB, PSF licence)."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in _walk(root, _STDLIB_SKIP) if path.suffix == ".py"]
    found = sum(path.stat().st_size for path in files)
    if found < _STDLIB_LEAST:
        raise DataError(
            f"text:stdlib: found {found / 1e6:.1f} MB of source below {root}, at least {_STDLIB_LEAST / 1e6:.0f} MB are "
            "needed; install the interpreter's full library (python3-full, libpython3-testsuite), or use "
            'source = "text:PATH" or "synthetic:zipf"'
        )
    return FileDocuments("text:stdlib", files, skip_undecodable=True)


def _files(name: str) -> FileDocuments:
    try:
        path = Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError):  # not a valid file name, or the home of an unknown user
        is_file = is_folder = False
    if is_file:
        return FileDocuments(f"text:{name}", [path])
    if not is_folder:
        raise DataError(f"text:{name}: no such file or folder; give a UTF-8 text file or a folder of them")
    files = _walk(path, set())
    if not files:
        raise DataError(f"text:{name}: the folder holds no files; give a UTF-8 text file or a folder of them")
    return FileDocuments(f"text:{name}", files)


def _walk(root: Path, skip: set[str]) -> list[Path]:
    """Every file below `root`, sorted by path, without hidden ones and without folders named in `skip`."""
    found = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in skip and not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    return sorted(found, key=str)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it readable or remove it") from None


def _blocks(content: bytes) -> Iterator[bytes]:
    start = 0
    while len(content) - start > _BLOCK:
        end = content.rfind(b"\n", start, start + _BLOCK) + 1
        if end <= start:  # no line end: cut at a character boundary
            end = start + _BLOCK
            while content[end] & 0xC0 == 0x80:
                end -= 1
        yield content[start:end]
        start = end
    if start < len(content):
        yield content[start:]
