"""The three approaches to the compute-optimal model of arXiv:2203.15556, section 3."""

from testbed.analysis.fit.approaches.allocation import Allocation, approach_1, approach_2
from testbed.analysis.fit.approaches.three_ways import ThreeWays, side_by_side

__all__ = ["Allocation", "ThreeWays", "approach_1", "approach_2", "side_by_side"]
