"""File locks between processes, released by the kernel when their holder exits, however it exits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from testbed.errors import FolderError, TestbedError
from testbed.files import not_writable

_PATIENCE = 0.5  # seconds; who only asks whether a lock is held has it for a moment


class Locked(FolderError):
    """Another process holds the lock."""


@contextmanager
def hold(path: Path, busy: str, patience: float = _PATIENCE) -> Iterator[bool]:
    """Hold the lock on the file at `path`, in a folder that exists; yields False where the file system has no locks.

    Raises:
        Locked: Another process still holds it after `patience` seconds; `busy` is the message.
        DiskError: The file cannot be written.
    """
    try:
        file = path.open("ab")
    except OSError as error:
        raise not_writable(path, error) from error
    with file:
        yield _acquire(file, busy, patience)


def is_held(path: Path) -> bool:
    """Whether another process holds the lock at `path`, as far as this machine can see; the file is not written."""
    try:
        file = path.open("rb")
    except OSError:
        return False
    with file:
        try:
            _lock(file, shared=True)  # so that those who ask at the same time do not see each other
        except BlockingIOError:
            return True
        except (OSError, ImportError):  # no locks on this file system, or on this platform
            return False
    return False


def _acquire(file: IO[bytes], busy: str, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            _lock(file)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Locked(busy) from None
            time.sleep(0.05)
        except OSError:
            return False
        except ImportError:
            raise TestbedError(
                "training needs the file locks of Linux or macOS, which this platform lacks (Python has no module fcntl "
                "here); train there, or in the Windows Subsystem for Linux. Plans, points and fits work here"
            ) from None


def _lock(file: IO[bytes], shared: bool = False) -> None:
    import fcntl  # absent on Windows, where everything but training works

    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
