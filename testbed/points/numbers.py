"""What a column holds, and its numbers: strict, since a value that is guessed spoils a fit unseen."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from numbers import Real
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.errors import TableError
from testbed.points.expressions import short
from testbed.units import parse_count

Kind = Literal["number", "text", "truth", "other"]

_INFERRED: dict[str, Kind] = {
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
    """The one column of that name; TableError where there is none, or more than one."""
    count = list(table.columns).count(name)
    if count != 1:
        found = "no column" if count == 0 else f"{count} columns"
        raise TableError(f"{where}: {found} {short(name)}; the table has {listed(table)}")
    return table[name]


def listed(table: pd.DataFrame) -> str:
    """The table's columns, the first 60 of them."""
    names = [short(str(name)) for name in table.columns[:_MOST_LISTED]]
    more = f" and {len(table.columns) - _MOST_LISTED} more" if len(table.columns) > _MOST_LISTED else ""
    return ", ".join(names) + more


def row_number(table: pd.DataFrame, position: int) -> int:
    """The row as the user counts it, from 1: in the whole table where `table` is a part of one, in its order."""
    index = table.index
    ours = pd.api.types.is_integer_dtype(index.dtype) and index.is_monotonic_increasing and index.is_unique
    return (int(index[position]) if ours and index[0] >= 0 else position) + 1


def kind_of(column: pd.Series[Any]) -> Kind:
    """What a column holds, missing values aside; a column of texts and numbers holds texts."""
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
    """The column's numbers [rows], nan where one is missing or no number; texts are read as `text_to_float` does."""
    kind = kind_of(column)
    if kind in ("truth", "other"):
        return np.full(len(column), np.nan)
    if kind == "number" and pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return values_to_floats(column.to_numpy(dtype=object, na_value=np.nan), counts)


def values_to_floats(values: Iterable[Any], counts: bool) -> NDArray[np.float64]:
    """Each value as a number, nan where it is none: truths and complex numbers are not."""
    return np.array([_float(value, counts) for value in values], dtype=np.float64)


def text_to_float(text: str, counts: bool) -> float:
    """1e9 or 1_000; with `counts` also 7B or 410m. Nan for anything else: in 1,000 the comma may mean two things."""
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
