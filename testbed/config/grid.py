"""The tables [grid] and [target]: the runs that are fitted, and the larger run that is forecast."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from testbed.config.identity import Later
from testbed.config.strict import Table
from testbed.config.values import Count, CountList, DataSeeds, Seeds, Widths

_MOST_RUNS = 100_000


class Grid(Table):
    """The table [grid]: the runs that are fitted, widths x horizons x seeds x axes."""

    widths: Widths = Field(description="widths of the models")
    tokens: CountList | None = Field(None, description="horizons, the same for each width (an N x D grid)")
    flops: CountList | None = Field(
        None, description="instead of tokens: training FLOPs of each slice (an IsoFLOP grid)"
    )
    init_seeds: Seeds = Field((0,), description="seeds of the weights")
    data_seeds: DataSeeds = Field(
        "own",
        description='"own" (each run has its own order of the data) or a list of seeds, each combined with each init seed',
    )
    vary: Annotated[dict[str, Any], Later] = Field(
        default_factory=dict, description="further axes: any keys of the configuration, each with a list of values"
    )
    design: Annotated[Literal["optimal"] | None, Later] = Field(
        None, description='"optimal": train only the widths, horizons and seeds that say most about the target'
    )
    budget: Annotated[Count | None, Later] = Field(
        None, description="with a design: training FLOPs that the grid may spend"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tokens is None) == (self.flops is None):
            raise ValueError("give either tokens (N x D) or flops (IsoFLOP)")
        if (self.design is None) != (self.budget is None):
            raise ValueError(
                'design = "optimal" and budget (training FLOPs of the grid) are given together or not at all'
            )
        if self.design is not None and len(self.init_seeds) < 2:
            raise ValueError(
                "a design chooses how many of init_seeds each width gets, at least two; give for example [0, 1, 2, 3, 4, 5]"
            )
        runs = len(self.widths) * len(self.init_seeds) * (1 if self.data_seeds == "own" else len(self.data_seeds))
        if runs > _MOST_RUNS:
            raise ValueError(f"widths x seeds make {runs} runs; at most {_MOST_RUNS}")
        return self


class Target(Table):
    """The table [target]: the larger run that is forecast."""

    width: int = Field(ge=1, le=65536, description="width of the target")
    tokens: Count = Field(description="horizon of the target")
    init_seeds: Seeds = Field((1000,), description="seeds of the weights")
    data_seeds: DataSeeds | None = Field(None, description="as in [grid], which is the default")
    at: Annotated[dict[str, Any], Later] = Field(
        default_factory=dict, description="the target's values of the axes in grid.vary"
    )
    processes: int | None = Field(None, ge=1, le=64, description="as in [train], which is the default")
