"""Reads the numbers of a column, strictly: a guessed value would spoil a fit without a sign."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from numbers import Real
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.errors import TableError
from testbed.units import parse_count

ValueKind = Literal["number", "text", "truth", "other"]

_INFERRED: dict[str, ValueKind] = {
    "integer": "number",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
    "empty": "number",  # no value at all: every number is missing
    "boolean": "truth",
    "string": "text",
    "mixed": "text",
    "mixed-integer": "text",
}
_MOST_LISTED = 60


def column_of(table: pd.DataFrame, name: str, where: str) -> pd.Series[Any]:
    """The column of that name.

    Raises:
        TableError: The table has no such column, or several.
    """
    count = list(table.columns).count(name)
    if count != 1:
        found = "no column" if count == 0 else f"{count} columns"
        raise TableError(f"{where}: {found} {short(name)}; the table has {listed(table)}")
    return table[name]


def short(text: str) -> str:
    """The text for a message: whole, or its first 100 characters."""
    return text if len(text) <= 100 else f"{text[:99]}…"


def listed(table: pd.DataFrame) -> str:
    """The names of the table's columns, for a message: the first 60."""
    names = [short(str(name)) for name in table.columns[:_MOST_LISTED]]
    more = f" and {len(table.columns) - _MOST_LISTED} more" if len(table.columns) > _MOST_LISTED else ""
    return ", ".join(names) + more


def row_number(table: pd.DataFrame, position: int) -> int:
    """The 1-based row number in the user's file, also when `table` is a filtered part of it."""
    index = table.index
    ours = pd.api.types.is_integer_dtype(index.dtype) and index.is_monotonic_increasing and index.is_unique
    return (int(index[position]) if ours and index[0] >= 0 else position) + 1


def kind_of(column: pd.Series[Any]) -> ValueKind:
    """The kind of a column's values, apart from missing ones; texts and numbers together are texts."""
    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if types.is_bool_dtype(column.dtype):
        return "truth"
    if types.is_complex_dtype(column.dtype):
        return "other"
    if types.is_numeric_dtype(column.dtype):
        return "number"
    return _INFERRED.get(types.infer_dtype(column, skipna=True), "other")


def to_floats(column: pd.Series[Any], counts: bool) -> NDArray[np.float64]:
    """The column's numbers [rows], nan where one is missing or not a number; texts are read by `text_to_float`."""
    kind = kind_of(column)
    if kind in ("truth", "other"):
        return np.full(len(column), np.nan)
    if kind == "number" and pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return values_to_floats(column.to_numpy(dtype=object, na_value=np.nan), counts)


def values_to_floats(values: Iterable[Any], counts: bool) -> NDArray[np.float64]:
    """Each value as a number; nan for anything else, truths and complex numbers too."""
    return np.array([_float(value, counts) for value in values], dtype=np.float64)


def text_to_float(text: str, counts: bool) -> float:
    """The number of a text such as 1e9 or 1_000, with `counts` also 7B or 410m; else nan.

    So is 1,000, whose comma separates thousands in some places and decimals in others.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(parse_count(text)) if counts else np.nan
    except ValueError:
        return np.nan


def _float(value: Any, counts: bool) -> float:
    if isinstance(value, str):
        return text_to_float(value, counts)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (Real, Decimal)):
        return np.nan
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1.8e308
        return np.inf
