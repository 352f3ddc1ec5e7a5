"""From a configuration to every run it asks for, and to the packs in which they are trained; pure arithmetic."""

from testbed.training.sweep.checks import design_warnings
from testbed.training.sweep.pack import Pack, cost, makespan, packed, packs, same_kind
from testbed.training.sweep.planning import Plan, Rung, learning_rates, plan, rungs
from testbed.training.sweep.retries import retries

__all__ = [
    "Pack",
    "Plan",
    "Rung",
    "cost",
    "design_warnings",
    "learning_rates",
    "makespan",
    "packed",
    "packs",
    "plan",
    "retries",
    "rungs",
    "same_kind",
]
