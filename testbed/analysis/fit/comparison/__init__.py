"""Laws compared by what they foretell of larger runs, and what the ways of counting move."""

from testbed.analysis.fit.comparison.compare import Comparison, compare
from testbed.analysis.fit.comparison.conventions import convention_table

__all__ = ["Comparison", "compare", "convention_table"]
