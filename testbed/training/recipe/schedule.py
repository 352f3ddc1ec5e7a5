"""The protocol of a learning-rate schedule: a pure function of the step."""

from __future__ import annotations

from typing import ClassVar, Protocol

from pydantic import BaseModel

from testbed.records import Horizon


class Schedule(Protocol):
    """The rate as a share of its peak.

    `branches` says that all horizons share one trunk: a horizon changes nothing before its branch_step.
    Otherwise every horizon is a run of its own, with its branch at step 0.
    """

    branches: ClassVar[bool]
    Settings: ClassVar[type[BaseModel]]

    def factor(self, step: int, warmup_steps: int, horizon: Horizon | None) -> float:
        """At optimiser step `step` (from 0) of a run to `horizon`, None on the trunk."""
        ...


def warmed_up(step: int, warmup_steps: int) -> float:
    """Linear warm-up; reaches 1 at the step number `warmup_steps`."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
