"""What a sweep may spend; no part of what decides a result."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from testbed.config.strict import Table
from testbed.config.values import Count


class Budget(Table):
    """What the sweep may spend in all; it stops before it would spend more, and can be raised later."""

    flops: Count | None = Field(None, description="training FLOPs")
    tokens: Count | None = Field(None, description="training tokens")
    device_minutes: float | None = Field(
        None, gt=0, description="minutes of devices (CPU cores or GPUs at work): two for a minute are two minutes"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.flops is None and self.tokens is None and self.device_minutes is None:
            raise ValueError("give at least one of flops, tokens and device_minutes")
        return self
