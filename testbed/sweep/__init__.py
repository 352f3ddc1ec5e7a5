"""From a configuration to every run it asks for, and to the packs in which they are trained; pure arithmetic."""

from testbed.sweep.checks import design_warnings
from testbed.sweep.pack import Pack, cost, packed, packs, same_kind
from testbed.sweep.planning import Plan, learning_rates, plan

__all__ = ["Pack", "Plan", "cost", "design_warnings", "learning_rates", "packed", "packs", "plan", "same_kind"]
