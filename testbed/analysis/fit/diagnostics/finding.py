"""What a fit has to confess: one doubt about it, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """A soft trouble of a fit: a `code` to filter by, a sentence that says what to do, and the numbers behind it."""

    code: str
    message: str
    evidence: Mapping[str, float | str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"code": self.code, "message": self.message, "evidence": dict(self.evidence)}
