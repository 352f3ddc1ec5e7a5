"""The points that a law is fitted to, read from any table: columns, units, and whether the numbers can be those."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from testbed.analysis.fit.targets import above_zero
from testbed.analysis.laws import Law
from testbed.errors import TableError
from testbed.points import (
    TableLike,
    as_table,
    check_sizes,
    column_named,
    evaluation_rows,
    fit_columns,
    map_columns,
    with_units,
)


def read_points(
    law: Law,
    data: TableLike,
    columns: Mapping[str, str] | None,
    units: Mapping[str, str] | None,
    where: str,
    space: str,
) -> tuple[pd.DataFrame, dict[str, str], pd.DataFrame]:
    """The table, the mapping of its columns, and the law's columns, response and run of each row.

    Rows of a training log that hold no evaluation are left out where the law's response is a loss.

    Raises:
        TableError: A column is missing or unclear, a value is none that the law takes, or the sizes are those of no
            model: in another unit than parameters and tokens.
    """
    table = as_table(data, where)
    wanted = (*law.columns, law.response)
    given = with_units(table, columns or {}, units or {}, where)
    table = evaluation_rows(table, wanted, given, where).rows
    mapping = map_columns(table, wanted, given, where)
    points = fit_columns(table, mapping, where, positive=above_zero(law, space))
    check_sizes(table, points, mapping, where)
    check_ranges(law, points, mapping, where)
    _check_uniform(law, table, points, mapping, where)
    return table, mapping, points


def check_ranges(law: Law, points: pd.DataFrame, mapping: Mapping[str, str], where: str) -> None:
    """Refuse columns outside of the range that the law declares, or most of whose rows are outside of the column's own.

    Raises:
        TableError: With the range, and the unit that mends percents.
    """
    for name in (*law.columns, law.response):
        low, high = law.ranges.get(name) or column_named(name).range or (-math.inf, math.inf)
        if name == "run" or (low, high) == (-math.inf, math.inf):
            continue
        values = points[name].to_numpy(np.float64)
        outside = np.flatnonzero((values < low) | (values > high))
        if outside.size > (0 if name in law.ranges else len(values) / 2):  # a law's own range holds for every row
            unit = "accuracy" if "accuracy" in mapping or name == "error" else name
            percents = high == 1 and (np.abs(values) > 1).mean() > 0.5 and np.abs(values).max() <= 100
            remedy = (
                f"percents? --unit {unit}=%" if percents else f"name another with --column {name}=COLUMN, or --where"
            )
            raise TableError(
                f"{where}: {name} = {mapping.get(name, name)} holds {values.min():g} to {values.max():g}; {law.name} takes "
                f"{low:g} to {high:g}; {remedy}"
            )


def _check_uniform(law: Law, table: pd.DataFrame, points: pd.DataFrame, mapping: Mapping[str, str], where: str) -> None:
    """Refuse losses that are all above those of a guess over the table's vocabulary: they are in another unit than nats."""
    if law.response != "loss" or "vocab_size" in mapping or not len(points):
        return
    try:
        source = map_columns(table, ("vocab_size",), {}, where)["vocab_size"]
        vocabulary = fit_columns(table, {"vocab_size": source}, where)["vocab_size"].to_numpy(np.float64)
    except TableError:
        return
    uniform = np.log(vocabulary)
    loss = points["loss"].to_numpy(np.float64)
    if (vocabulary > 1).all() and (loss > 1.001 * uniform).all():
        raise TableError(
            f"{where}: loss = {mapping.get('loss', 'loss')} holds {loss.min():.4g} to {loss.max():.4g}, above ln V = "
            f"{uniform.max():.4g} of a guess over {source} in every row; in bits: --unit loss=bits, a perplexity: "
            "--loss 'log(COLUMN)'"
        )
