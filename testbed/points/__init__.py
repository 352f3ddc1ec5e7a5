"""The points table: one row a loss. From here on a table of anyone's runs is as good as our own.

`table` reads and writes it, `columns` describes its columns, `mapping` finds the columns that a law needs in a
foreign table and reads them as numbers, `expressions` selects rows by a condition.
"""

from testbed.points.columns import COLUMNS, POINTS_COLUMNS, Column, canonical, column_named, key_columns
from testbed.points.expressions import filter_rows
from testbed.points.given_tables import TableLike, as_table
from testbed.points.logs import EvaluationRows, evaluation_rows
from testbed.points.mapping import (
    check_sizes,
    derived_columns,
    fit_columns,
    known_sources,
    map_columns,
    mapping_notes,
    points_digest,
    with_units,
)
from testbed.points.table import annealed_only, read_table, without_target, write_table

__all__ = [
    "COLUMNS",
    "POINTS_COLUMNS",
    "Column",
    "EvaluationRows",
    "TableLike",
    "annealed_only",
    "as_table",
    "canonical",
    "check_sizes",
    "column_named",
    "derived_columns",
    "evaluation_rows",
    "filter_rows",
    "fit_columns",
    "key_columns",
    "known_sources",
    "map_columns",
    "mapping_notes",
    "points_digest",
    "read_table",
    "with_units",
    "without_target",
    "write_table",
]
