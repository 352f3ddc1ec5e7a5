"""Half a cosine from the end of the warm-up to the horizon (arXiv:1608.03983; arXiv:2203.15556, figure A1)."""

from __future__ import annotations

import math

from pydantic import Field

from testbed.config.strict import Table
from testbed.records import Horizon
from testbed.training.recipe.schedule import warmed_up


class Cosine:
    """Half a cosine from the peak rate to `floor` times it."""

    branches = False

    class Settings(Table):
        """[train.cosine]"""

        floor: float = Field(0.1, ge=0, le=1, description="rate at the horizon, as a share of the peak")

    def __init__(self, settings: Settings) -> None:
        self._floor = settings.floor

    def factor(self, step: int, warmup_steps: int, horizon: Horizon | None) -> float:
        """The share of the peak rate."""
        assert horizon is not None  # it has no trunk
        done = max(0, step + 1 - warmup_steps) / (horizon.steps - warmup_steps)
        return warmed_up(step, warmup_steps) * (self._floor + (1 - self._floor) * 0.5 * (1 + math.cos(math.pi * done)))
