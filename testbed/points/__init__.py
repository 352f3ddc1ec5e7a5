"""The points table: one row a loss. From here on a table of anyone's runs is as good as our own.

`table` reads and writes it, `columns` finds in a foreign table the columns that a law needs and gives
them as numbers, `where` selects rows by an expression.
"""

from testbed.points.columns import derived_columns, fit_columns, map_columns, points_digest
from testbed.points.names import USUAL_NAMES
from testbed.points.table import COLUMNS, annealed_only, read_table, without_target, write_table
from testbed.points.where import filter_rows

__all__ = [
    "COLUMNS",
    "USUAL_NAMES",
    "annealed_only",
    "derived_columns",
    "filter_rows",
    "fit_columns",
    "map_columns",
    "points_digest",
    "read_table",
    "without_target",
    "write_table",
]
