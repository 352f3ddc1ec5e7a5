"""Which fields of a frozen model decide its identity; digests are of those, so a new field need not change old ones."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Label:
    """Marks a field that decides nothing: it is in no digest."""


class Later:
    """Marks a field that is newer than the first digests: it is in them only where it is not at its default."""


class Identified(BaseModel):
    """A model whose digests leave out its `Label` fields, and its `Later` fields where they are at their defaults."""

    def identity(self) -> dict[str, Any]:
        """The fields that decide a result, as plain JSON values."""
        left_out: set[str] = set()
        nested: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            at_default = Later in field.metadata and value == field.get_default(call_default_factory=True)
            if at_default or Label in field.metadata:
                left_out.add(name)
            elif isinstance(value, Identified):
                nested[name] = value.identity()
            elif isinstance(value, tuple) and value and all(isinstance(each, Identified) for each in value):
                nested[name] = [each.identity() for each in value]
        return self.model_dump(mode="json", exclude=left_out | nested.keys()) | nested
