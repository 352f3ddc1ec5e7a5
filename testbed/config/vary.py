"""Axes of a grid besides sizes, horizons and seeds: any keys of the configuration, each with a list of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

Value = int | float | str | bool
Cell = Mapping[str, Value]  # dotted key -> its value in one cell of the grid


def axes(vary: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Value, ...]]:
    """Dotted keys with their values; `vary` has the shape of a configuration, with lists at its leaves.

    Raises ValueError for a leaf that is not a list of different values.
    """
    found: dict[str, tuple[Value, ...]] = {}
    for key, value in vary.items():
        if isinstance(value, Mapping):
            found |= axes(value, f"{prefix}{key}.")
        elif not isinstance(value, (list, tuple)) or not value or len(set(map(repr, value))) < len(value):
            raise ValueError(f"grid.vary.{prefix}{key}: found {value!r}; accepted: a list of different values")
        else:
            found[f"{prefix}{key}"] = tuple(value)
    return found


def cells(vary: Mapping[str, Any]) -> Iterator[dict[str, Value]]:
    """Every combination of the values in `vary`; one empty cell if it is empty."""
    by_key = axes(vary)
    return (dict(zip(by_key, values, strict=True)) for values in product(*by_key.values()))


def merged(tree: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """The tree of a configuration with the values of `cell` set in place."""
    for key, value in cell.items():
        *tables, last = key.split(".")
        at = tree
        for name in tables:
            at = at.setdefault(name, {})
        at[last] = value
    return tree
