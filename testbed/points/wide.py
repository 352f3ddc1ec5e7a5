"""Recognises tables with a column a model, a column a data size or a column a run, and says how to make them long."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from testbed.points.spelled_numbers import looks_numeric
from testbed.units import parse_count

_LEAST = 3  # columns that differ in a size only
_COUNT = re.compile(r"(?<![0-9.])[0-9]+(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?[kKmMbBgGtT]?(?![0-9A-Za-z])")
_PANEL = ("__MIN", "__MAX")  # of a Weights & Biases panel's export
_SMALLEST = 1e3  # below it a number in a name is a layer, a domain or a seed


def shape_hint(table: pd.DataFrame, has: Callable[[str], bool], where: str) -> str:
    """Why a table has no columns of its own for N, D and loss, and the line of pandas that mends it; "" if unknown.

    `has` says whether the table has a column for a canonical name.
    """
    names = [name for name in table.columns if isinstance(name, str)]
    if len(names) > 1 and all(map(looks_numeric, names)):
        return "; its first line holds numbers, not names: put a line with the names above it, such as N,D,loss"
    bands = [name for name in names if name.endswith(_PANEL)]
    if len(bands) > 1:
        metric = bands[0].rpartition("__")[0]
        others = [name for name in names if name not in bands and " - " not in name]
        line = f'.drop(columns=[c for c in table if c.endswith(("__MIN", "__MAX"))]){_melt(others, "run")}'
        told = f"; it has a column a run ({metric}): make it long with\n  {_read(where)}\n  table{line}"
        return f"{told}\nand add N and D of each run"
    group = _sizes(table)
    if not group:
        return ""
    size = "tokens" if not has("tokens") and (has("n") or _of_models(table, group)) else "n"
    columns = list(group)
    prefix, suffix = group[columns[0]]
    cut = (
        f".rename(columns=lambda name: name.removeprefix({prefix!r}).removesuffix({suffix!r}))"
        if prefix or suffix
        else ""
    )
    rest = [name for name in names if name not in group]
    noun = "model" if size == "n" else "data size"
    return (
        f"; it is wide, with a column a {noun} ({', '.join(columns[:3])}, ...): make it long with\n  {_read(where)}\n"
        f"  table{cut}{_melt(rest, size)}"
    )


def _sizes(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Columns of numbers whose names differ in a size only, each with what stands before and after it."""
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for name, kind in zip(table.columns, table.dtypes, strict=True):
        if not isinstance(name, str) or not pd.api.types.is_numeric_dtype(kind):
            continue
        for match in _COUNT.finditer(name):
            groups.setdefault((name[: match.start()], name[match.end() :]), {})[name] = _size(match[0])
    for (prefix, suffix), found in groups.items():
        if len(set(found.values())) >= _LEAST and max(found.values()) >= _SMALLEST:
            return dict.fromkeys(found, (prefix, suffix))
    return {}


def _size(text: str) -> float:
    try:
        return float(parse_count(text))
    except ValueError:
        return 0.0


def _of_models(table: pd.DataFrame, group: dict[str, Any]) -> bool:
    """Whether the other columns name models, so that the sizes in the names are data's."""
    return any(re.search("model|arch", str(name), re.IGNORECASE) for name in table.columns if name not in group)


def _read(where: str) -> str:
    kind = "json" if where.endswith(".json") else "excel" if where.endswith(".xlsx") else "csv"
    named = where.endswith((".csv", ".tsv", ".txt", ".json", ".xlsx"))
    return f"table = pandas.read_{kind}({where!r})" if named else "(in Python, from the table)"


def _melt(rest: list[str], size: str) -> str:
    return f'.melt(id_vars={rest[:8]!r}, var_name="{size}", value_name="loss").dropna().to_csv("long.csv", index=False)'
