"""The versions of testbed and of the packages that a result depends on."""

from __future__ import annotations

__version__ = "0.1.0"  # here and not in the metadata of an installation: a clone that is only on the path has none


def versions(*packages: str) -> dict[str, str]:
    """By name, the version of testbed and of installed packages."""
    from importlib.metadata import version  # costs a third of `import testbed`

    return {"testbed": __version__} | {name: version(name) for name in packages}
