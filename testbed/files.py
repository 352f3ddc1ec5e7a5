"""Files and folders that are whole or absent: written under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed.errors import DiskError, FolderError

_ANOTHER_FOLDER = "or give another folder (--out)"  # the remedy for a file of a sweep that cannot be written


@contextmanager
def replacing(path: Path, remedy: str = _ANOTHER_FOLDER) -> Iterator[Path]:
    """Yield a temporary file beside `path`; on success it takes the place of `path` in one step.

    On an error nothing is left of it, and `path` is untouched.

    Raises:
        DiskError: The file cannot be written; the message ends with `remedy`.
    """
    with _beside(path, remedy) as temporary:
        yield temporary
        _finish(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)


@contextmanager
def building(folder: Path, remedy: str = _ANOTHER_FOLDER) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success it becomes `folder`, which must be absent or empty.

    On an error nothing is left of it.

    Raises:
        DiskError: The folder cannot be written, or is not empty; the message ends with `remedy`.
    """
    with _beside(folder, remedy, folder=True) as temporary:
        yield temporary
        temporary.replace(folder)


def keep(path: Path, kept: Path) -> None:
    """Give the file at `path`, if there is one, the second name `kept`, under which it outlives its replacement."""
    if not path.exists():
        return
    linked = kept.with_name(f".{kept.name}.{os.getpid()}")
    linked.unlink(missing_ok=True)
    try:
        os.link(path, linked)
    except OSError:  # a file system without links: for a moment there is no `path`
        path.replace(kept)
    else:
        linked.replace(kept)


def write_text(path: Path, text: str, remedy: str = _ANOTHER_FOLDER) -> None:
    """Write `text` as UTF-8, whole or not at all; DiskError, which ends with `remedy`, where it cannot be written."""
    with replacing(path, remedy) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, remedy: str = _ANOTHER_FOLDER) -> None:
    """Write indented JSON, whole or not at all.

    Raises:
        DiskError: The file cannot be written; the message ends with `remedy`.
        ValueError: A number is infinite or not a number, which JSON cannot hold.
    """
    write_text(path, _indented(value), remedy)


def create_json(path: Path, value: Any) -> None:
    """Write indented JSON to a file that does not exist yet, whole or not at all.

    Raises:
        DiskError: The file cannot be written.
        FileExistsError: The file exists; of several processes that create it at once, all but one get this.
    """
    with _beside(path) as temporary:
        temporary.write_text(_indented(value), encoding="utf-8")
        _finish(temporary)
        try:
            os.link(temporary, path)
            created = True
        except FileExistsError:
            # on a network file system the link can be made and the answer lost: then the file has two names
            created = temporary.stat().st_nlink > 1
        _sync_folder(path.parent)
    if not created:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def append_line(path: Path, text: str) -> None:
    """Add one line to `path` and flush it to disk; a last line that a crash cut short is dropped first.

    A symbolic link is not followed, since it could lead anywhere.

    Raises:
        DiskError: The file cannot be written.
    """
    try:
        with open(path, "ab+", opener=_unlinked) as log:
            _drop_partial_line(log)
            log.write(text.encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())
    except OSError as error:
        raise not_writable(path, error) from error


def read_lines(path: Path) -> list[str]:
    """The complete lines of `path`, without a last one that a crash cut short; none where there is no file.

    Raises:
        FolderError: It is not a plain file of UTF-8, or cannot be read.
    """
    try:
        return [line.decode() for line in read_bytes(path).split(b"\n")[:-1]]
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise FolderError(f"{path}: not UTF-8 ({error.reason}); move its folder away to have it made again") from None


def read_bytes(path: Path) -> bytes:
    """The content of a plain file.

    Raises:
        FileNotFoundError: There is no such file.
        FolderError: It cannot be read, or is a pipe or a device, which would be read for ever.
    """
    try:
        with open(path, "rb", opener=_unblocked) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FolderError(f"{path}: not a plain file; take it away")
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FolderError(f"{path}: cannot be read ({error.strerror or error})") from None


def stay_inside(folder: Path, path: Path) -> Path:
    """`path`, which is below `folder`, checked before it is written to.

    Raises:
        FolderError: A symbolic link on the way leads out of `folder`.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise FolderError(
            f"{path}: leads out of {folder} by a symbolic link, to {path.resolve()}; nothing is written through it: take "
            "the link away, or use another folder (--out)"
        )
    return path


def canonical_json(value: Any) -> bytes:
    """The JSON of `value` that digests are computed from: sorted keys, no spaces, shortest floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def not_writable(path: Path, error: OSError, remedy: str = _ANOTHER_FOLDER) -> DiskError:
    """The error for a file or folder that could not be written."""
    reason = error.strerror or str(error)
    return DiskError(
        f"cannot write {path}: {reason}; make sure of free space and write permission there and repeat the command, {remedy}"
    )


@contextmanager
def _beside(path: Path, remedy: str = _ANOTHER_FOLDER, folder: bool = False) -> Iterator[Path]:
    """A temporary file, or folder, beside `path`: removed at the end unless it was renamed; OSError becomes DiskError."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name}."
        if folder:
            temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        else:
            handle, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
            os.close(handle)
            temporary = Path(name)
        yield temporary
    except OSError as error:
        raise not_writable(path, error, remedy) from error
    finally:
        if temporary is not None and folder:
            shutil.rmtree(temporary, ignore_errors=True)
        elif temporary is not None:
            temporary.unlink(missing_ok=True)


def _finish(file: Path) -> None:
    """Make a temporary file readable as any other, and flush it to disk."""
    file.chmod(0o644)
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _unlinked(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)


def _unblocked(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _drop_partial_line(log: Any) -> None:
    size = log.seek(0, os.SEEK_END)
    if size == 0:
        return
    log.seek(size - 1)
    if log.read(1) == b"\n":
        return
    log.seek(0)
    log.truncate(log.read().rfind(b"\n") + 1)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
