"""The law's columns of runs that are to be predicted, whatever their table calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.laws import Law
from testbed.points import fit_columns, known_sources, map_columns


def columns_of(
    law: Law, known: Mapping[str, str], data: pd.DataFrame | Mapping[str, ArrayLike], where: str = "the targets"
) -> dict[str, NDArray[Any]]:
    """The law's raw columns, each [rows], from a table that has them by the law's names, by those of `known`, or by usual ones.

    `known` is what they were called in the table that was fitted. Numbers stand for themselves in every
    row. TableError names a column that is nowhere.
    """
    if not all(name in data for name in law.columns):
        table = data if isinstance(data, pd.DataFrame) else pd.DataFrame({k: np.atleast_1d(v) for k, v in data.items()})
        given = known_sources(table, {name: source for name, source in known.items() if name != "run"})
        wanted = tuple(name for name in law.columns if name != "run")
        data = fit_columns(table, map_columns(table, wanted, given, where), where, wanted if law.positive else ())
    raw = {name: np.atleast_1d(np.asarray(data[name])) for name in law.columns}
    length = max(len(values) for values in raw.values())
    return {name: np.broadcast_to(values, (length, *values.shape[1:])) for name, values in raw.items()}


def above_zero(law: Law, space: str) -> tuple[str, ...]:
    """Columns that must be above 0."""
    names = [name for name in law.columns if name != "run"] if law.positive else []
    return (*names, law.response) if space == "log" else tuple(names)
