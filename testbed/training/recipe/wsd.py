"""Warm-up, constant trunk, linear cooldown (arXiv:2404.06395, section 4; branched: arXiv:2405.18392)."""

from __future__ import annotations

from testbed.config.strict import Table
from testbed.records import Horizon
from testbed.training.recipe.schedule import warmed_up


class WarmupStableDecay:
    """The decay would reach 0 one step after the horizon's last; its length is train.cooldown."""

    branches = True

    class Settings(Table):
        """None of its own."""

    def __init__(self, settings: Settings) -> None: ...

    def factor(self, step: int, warmup_steps: int, horizon: Horizon | None) -> float:
        """The share of the peak rate."""
        factor = warmed_up(step, warmup_steps)
        if horizon is not None and step >= horizon.branch_step:
            factor *= 1.0 - (step - horizon.branch_step + 1) / (horizon.steps - horizon.branch_step + 1)
        return factor
