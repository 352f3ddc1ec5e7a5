"""The configurations that come with testbed, found by their names: quick, quick_synthetic, ..."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_CHECKOUT = Path(__file__).parents[2]
_INSTALLED = "share/testbed/configs"  # below the environment's data folder; see tool.setuptools.data-files


def builtin_configs() -> dict[str, Path]:
    """Name -> file of every configuration that comes with this copy of testbed: a checkout's, or the installed ones."""
    if (_CHECKOUT / "pyproject.toml").exists():
        found = list((_CHECKOUT / "configs").glob("*.toml"))
    else:
        try:
            listed = files("testbed") or []
        except PackageNotFoundError:
            listed = []
        found = [Path(str(file.locate())).resolve() for file in listed if file.parent.as_posix().endswith(_INSTALLED)]
    return {path.stem: path for path in sorted(found) if path.suffix == ".toml"}


def find_config(path: Path) -> Path:
    """The built-in configuration if `path` is its bare name and no such file exists; else `path`."""
    if path.suffix or len(path.parts) != 1 or path.exists():
        return path
    return builtin_configs().get(path.name, path)
