"""Write API pages of what users name, from the docstrings: python scripts/api_pages.py [FOLDER], build/api if not given.

Fails on any warning, for instance where a name or an annotation cannot be resolved.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import typing
import warnings
from pathlib import Path
from types import ModuleType

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "testbed",
    "testbed.analysis.laws",
    "testbed.analysis.fit",
    "testbed.analysis.forecast",
    "testbed.analysis.design",
    "testbed.points",
    "testbed.records",
    "testbed.config",
    "testbed.study",
    "testbed.training.data",
    "testbed.training.models",
    "testbed.training.recipe",
    "testbed.training.executors",
)


def main(folder: str = str(ROOT / "build" / "api")) -> None:
    sys.path.insert(0, str(ROOT))
    import pdoc

    pd.Series.__class_getitem__ = classmethod(lambda cls, item: cls)  # pd.Series[float] is for type checkers
    for name in MODULES:
        resolve(importlib.import_module(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # pdoc's
        pdoc.pdoc(*MODULES, output_directory=Path(folder))
    print(f"written: {folder}/index.html")


def resolve(module: ModuleType) -> None:
    """Import a module's lazy names, and evaluate the annotations of fields where they were written."""
    for name in getattr(module, "__all__", ()):
        found = getattr(module, name)
        setattr(module, name, found)
        if isinstance(found, type) and (dataclasses.is_dataclass(found) or hasattr(found, "_fields")):
            bases = [vars(importlib.import_module(base.__module__)) for base in reversed(found.__mro__)]
            names = {key: value for base in bases for key, value in base.items()}
            make = found.__init__ if dataclasses.is_dataclass(found) else found.__new__  # a named tuple's
            make.__annotations__ = typing.get_type_hints(make, names)


if __name__ == "__main__":
    main(*sys.argv[1:])
