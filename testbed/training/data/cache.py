"""The folder in which prepared tokens are kept between commands."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

ANOTHER_CACHE = "or set TESTBED_CACHE to a folder of yours"  # the remedy where it cannot be written


def cache_folder() -> Path:
    """`$TESTBED_CACHE`, or else ~/.cache/testbed; a folder of temporary files where there is no home that can be written."""
    named = os.environ.get("TESTBED_CACHE")
    if named:
        return Path(named)
    try:
        usual = Path.home() / ".cache" / "testbed"
        usual.mkdir(parents=True, exist_ok=True)
        if os.access(usual, os.W_OK):
            return usual
        reason = f"{usual} cannot be written"
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        reason = str(error)
    folder = _temporary()
    warnings.warn(
        f"prepared texts are kept in {folder}, since there is no home to keep them in ({reason}); set TESTBED_CACHE to a "
        "folder of yours to choose another one",
        stacklevel=2,
    )
    return folder


def _temporary() -> Path:
    """A folder of temporary files that is this user's own, the same in every process if nobody else has taken its name."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"testbed-{user}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="testbed-"))
    own = folder.is_dir() and not folder.is_symlink() and found.st_uid == user and not found.st_mode & 0o022
    return folder if own or os.name != "posix" else Path(tempfile.mkdtemp(prefix="testbed-"))
