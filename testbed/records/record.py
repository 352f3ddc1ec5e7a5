"""What every record is: frozen, and strict when it is read back."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen record; unknown fields and wrong types are refused when one is read back."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def as_json(record: BaseModel) -> dict[str, Any]:
    """The plain JSON values of a record."""
    return record.model_dump(mode="json")
