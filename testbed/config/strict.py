"""What all tables of a configuration have in common."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from testbed.identity import Identified


class Table(Identified):
    """Strict and frozen: no key that is not known, no value that has to be converted, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class OpenTable(Table):
    """One in which components have tables of their own, [train.prune] for one; the component checks it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, Any]] = Field(init=False)
