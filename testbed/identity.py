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
        tree = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            at_default = Later in field.metadata and value == field.get_default(call_default_factory=True)
            if at_default or Label in field.metadata:
                del tree[name]
            elif isinstance(value, Identified):
                tree[name] = value.identity()
            elif isinstance(value, tuple) and any(isinstance(each, Identified) for each in value):
                tree[name] = [each.identity() if isinstance(each, Identified) else each for each in value]
        return tree
