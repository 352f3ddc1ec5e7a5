"""The table [budget]: what a sweep may spend, which is not part of its identity."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from testbed.config.strict import Table
from testbed.config.values import Count


class Budget(Table):
    """The table [budget]. The sweep stops before it would spend more; the budget can be raised while it runs or later."""

    flops: Count | None = Field(None, description="training FLOPs")
    tokens: Count | None = Field(None, description="training tokens")
    device_minutes: float | None = Field(
        None, gt=0, description="device minutes (CPU cores or GPUs at work): two devices for one minute are two"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.flops is None and self.tokens is None and self.device_minutes is None:
            raise ValueError("give at least one of flops, tokens and device_minutes")
        return self
