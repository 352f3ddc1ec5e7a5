"""Laws compared by what they predict of larger runs, and how conventions of counting move a fit."""

from testbed.analysis.fit.comparison.compare import LawComparison, compare
from testbed.analysis.fit.comparison.conventions import convention_table

__all__ = ["LawComparison", "compare", "convention_table"]
