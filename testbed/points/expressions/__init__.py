"""Expressions over a table's columns: `n >= 1e8 and run in ("a", "b")`, or `flops / (6 * n)`.

Parsed by hand and never run as Python: there are seven functions and no attributes, a mistake is reported with its place, and
neither a long text nor a deep one exhausts the stack (`ast.parse` refuses a sum of 3000 terms).
"""

from testbed.points.expressions.evaluate import computed, filter_rows
from testbed.points.expressions.parser import parse
from testbed.points.expressions.tree import columns_of, quoted

__all__ = ["columns_of", "computed", "filter_rows", "parse", "quoted"]
