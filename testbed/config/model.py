"""The table [model]: the family of models."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from testbed.config.strict import OpenTable
from testbed.config.values import Text


class Model(OpenTable):
    """The table [model]: the family, and the rule that gives a width its whole shape."""

    family: Text = Field("gpt", description='"gpt", "hf:<model_type>" or "package.module:Family"')
    head_size: int = Field(64, ge=2, le=512, description="width of one attention head, the same on every rung")
    depth: int | None = Field(None, ge=1, le=512, description="layers, the same on every rung")
    width_per_layer: int | None = Field(None, ge=1, le=4096, description="instead of depth: layers = width / this")
    options: dict[Text, int | float | bool | Text] = Field(
        default_factory=dict, description="further fields of a transformers configuration (hf: families)"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.depth is None) == (self.width_per_layer is None):
            raise ValueError("give either depth or width_per_layer")
        if self.head_size % 2:
            raise ValueError("head_size is even (rotary positions come in pairs)")
        if self.options and not self.family.startswith("hf:"):
            raise ValueError("the table [model.options] belongs to a family hf:<model_type>")
        return self
