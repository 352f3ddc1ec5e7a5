"""Whatever Python holds as a table of runs, as a pandas table with its names in the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from testbed.errors import TableError
from testbed.points.json_tables import flattened
from testbed.points.spelled_numbers import plain_numbers
from testbed.points.table import read_table

TableLike = pd.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | Path

_ACCEPTED = "accepted: a DataFrame, a mapping from columns to their values, a list of dicts, or the path of a file"


def as_table(data: TableLike, where: str) -> pd.DataFrame:
    """A table from a DataFrame, a mapping from columns to values, a list of dicts, or a file's path.

    Named levels of an index, as a groupby leaves them, are columns; dicts in dicts are columns a.b.

    >>> cells = pd.DataFrame({"N": [1e8, 1e8], "D": [1e9, 1e9], "loss": [3.1, 3.0]}).groupby(["N", "D"]).min()
    >>> list(as_table(cells, "the table").columns)
    ['N', 'D', 'loss']

    Raises:
        TableError: It is none of these, such as a Series or an array; with what to write instead.
    """
    if isinstance(data, pd.DataFrame):
        return plain_numbers(_with_index(data, where))
    if isinstance(data, str | Path):
        return read_table(data)
    if isinstance(data, pd.Series):
        levels = [str(name) for name in data.index.names if name is not None]
        hint = f"; .reset_index() makes one with {', '.join(levels)} and its values as columns" if levels else ""
        raise TableError(f"{where}: found a Series; {_ACCEPTED}{hint}")
    if hasattr(data, "to_pandas"):  # polars, pyarrow, datasets
        return plain_numbers(_with_index(pd.DataFrame(data.to_pandas()), where))
    if isinstance(data, Mapping):
        return _of_mapping(data, where)
    if isinstance(data, Sequence) and all(isinstance(row, Mapping) for row in data):
        return plain_numbers(pd.DataFrame(flattened([dict(row) for row in data if isinstance(row, Mapping)])))
    raise TableError(f"{where}: found {_kind(data)}; {_ACCEPTED}")


def _with_index(table: pd.DataFrame, where: str) -> pd.DataFrame:
    if isinstance(table.columns, pd.MultiIndex):  # of .agg(["mean", "std"])
        names = [", ".join(map(str, name)) for name in table.columns[:6]]
        raise TableError(
            f"{where}: the columns have {table.columns.nlevels} levels ({'; '.join(names)}); choose one, as in "
            'table.xs("mean", axis=1, level=1).reset_index()'
        )
    levels = [name for name in table.index.names if name is not None and name not in table.columns]
    return table.reset_index(level=levels) if levels else table


def _of_mapping(data: Mapping[str, Any], where: str) -> pd.DataFrame:
    try:
        return plain_numbers(pd.DataFrame(dict(data)))
    except ValueError as error:  # scalars, or columns of several lengths
        lengths = {name: len(v) if hasattr(v, "__len__") and not isinstance(v, str) else 1 for name, v in data.items()}
        raise TableError(
            f"{where}: {str(error)[:100]} (values of each column: {str(lengths)[1:100].rstrip('}')}); accepted: columns as "
            "lists of one length"
        ) from None


def _kind(data: object) -> str:
    shape = getattr(data, "shape", None)
    name = type(data).__name__
    return f"an array of shape {shape}, whose columns have no names" if shape is not None else f"a {name}"
