"""Warm-up, constant trunk, linear cooldown (arXiv:2404.06395, section 4; branched: arXiv:2405.18392)."""

from __future__ import annotations

from testbed.config.strict import Table
from testbed.records import Horizon
from testbed.training.recipe.schedule import warmed_up


class WarmupStableDecay:
    """Linear cooldown over the last train.cooldown of the steps; it would reach 0 one step after the horizon's last."""

    branches = True

    class Settings(Table):
        """No settings: warm-up and cooldown are keys of [train]."""

    def __init__(self, settings: Settings) -> None: ...

    def factor(self, step: int, warmup_steps: int, horizon: Horizon | None) -> float:
        """The share of the peak rate."""
        factor = warmed_up(step, warmup_steps)
        if horizon is not None and step >= horizon.branch_step:
            factor *= 1.0 - (step - horizon.branch_step + 1) / (horizon.steps - horizon.branch_step + 1)
        return factor
