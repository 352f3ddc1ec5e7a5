"""The table [forecast]: how the forecast is made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.config.strict import Table
from testbed.config.values import Names, Seed, Texts


class ForecastSettings(Table):
    """The table [forecast], fixed before anything is trained."""

    laws: Names = Field(
        ("hoffmann", "kaplan"), description="the forecast is the geometric mean of these laws' predictions"
    )
    beside: Texts = Field((), description="laws that are fitted and shown, but not part of the forecast")
    n: Literal["n_params_non_embedding", "n_params_total"] = Field(
        "n_params_non_embedding", description="which parameter count is N"
    )
    delta: float = Field(0.01, gt=0, description="Huber width on the logarithm of the loss")
    bootstrap: int = Field(1000, ge=100, le=100_000, description="resamples of the trunks")
    level: float = Field(0.9, gt=0.5, lt=1, description="level of every interval")
    seed: Seed = Field(0, description="seed of the resampling")
