"""Files that are whole or absent: written to a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed.errors import DiskError, FolderError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path` in one step.

    On an error nothing is left and what stood at `path` is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise not_writable(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise not_writable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def keep(path: Path, kept: Path) -> None:
    """Give what stands at `path`, if anything, the further name `kept`, under which it outlives its replacement."""
    if not path.exists():
        return
    linked = kept.with_name(f".{kept.name}.{os.getpid()}")
    linked.unlink(missing_ok=True)
    try:
        os.link(path, linked)
    except OSError:  # a file system without links: for a moment nothing stands at `path`
        path.replace(kept)
    else:
        linked.replace(kept)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all; NaN and infinity are refused (JSON has neither)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def create_json(path: Path, value: Any) -> None:
    """Write indented JSON where nothing is yet; FileExistsError if something is, of two processes for one of them."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=2, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.link(temporary, path)
        _sync_folder(path.parent)
    except FileExistsError:
        # over a network a link can be made and its answer lost: then this file has two names
        if temporary is None or temporary.stat().st_nlink < 2:
            raise
    except OSError as error:
        raise not_writable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def append_line(path: Path, text: str) -> None:
    """Add one line to `path` and flush it to disk; a line that a crash cut short is dropped first.

    A symbolic link is not followed: it could lead to a file of anything else.
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
    """The whole lines of `path`; an unfinished last line (a crash while writing) is not one."""
    try:
        return [line.decode() for line in read_bytes(path).split(b"\n")[:-1]]
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise FolderError(f"{path}: not UTF-8 ({error.reason}); move its folder away to make it anew") from None


def read_bytes(path: Path) -> bytes:
    """What a plain file holds; FileNotFoundError where there is none, FolderError where it is something else.

    A pipe or a device would be read for ever.
    """
    try:
        with open(path, "rb", opener=_unblocked) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FolderError(f"{path}: no plain file; take it away")
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FolderError(f"{path}: cannot be read ({error.strerror or error})") from None


def stay_inside(folder: Path, path: Path) -> Path:
    """`path`, which is in `folder`; FolderError where a symbolic link on the way leads out of it, before anything is written."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise FolderError(
            f"{path}: leads out of {folder} by a symbolic link, to {path.resolve()}; nothing is written through it: take "
            "the link away, or have the whole folder elsewhere (--out)"
        )
    return path


def canonical_json(value: Any) -> bytes:
    """The one spelling of `value` that digests are taken of: sorted keys, no spaces, shortest floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def not_writable(path: Path, error: OSError) -> DiskError:
    """The message for a file that could not be written."""
    reason = error.strerror or str(error)
    return DiskError(
        f"cannot write {path}: {reason}; see to free space and write permission there and repeat the command, or give another "
        "folder (--out)"
    )


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
