"""Base classes of all tables of a configuration."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from testbed.config.identity import Identified


class Table(Identified):
    """A frozen table; unknown keys, values of another type and NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class OpenTable(Table):
    """A table that may also hold tables of components, for example [train.prune], which the component checks."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, Any]] = Field(init=False)
