"""One process of a machine at a time: a lock on a file that ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import FolderError
from testbed.files import not_writable


@contextmanager
def hold(path: Path, message: str, patience: float = 0.5) -> Iterator[None]:
    """Hold the lock at `path`; FolderError(message) if another process still has it after `patience` seconds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
    except OSError as error:
        raise not_writable(path, error) from error
    with lock:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise FolderError(message) from None
                time.sleep(0.05)
        yield
