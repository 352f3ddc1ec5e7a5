"""Makes a folder completely or not at all, and never over an existing one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import FolderError
from testbed.files import building


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, readable by everyone, that becomes `path` on success.

    Raises:
        DiskError: The folder cannot be written.
        FolderError: `path` holds something already.
    """
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise FolderError(f"{path}: there already, and not empty; give another folder (-o)")
    with building(path) as temporary:
        temporary.chmod(0o755)
        yield temporary
