"""A folder that is there whole or not at all, and never over anything."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import FolderError
from testbed.files import not_writable


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that on success becomes it; FolderError where something is there already."""
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise FolderError(f"{path}: there already, and not empty; give another folder (-o)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise not_writable(path, error) from error
    try:
        yield building
        building.chmod(0o755)
        building.replace(path)
    except OSError as error:
        raise not_writable(path, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
