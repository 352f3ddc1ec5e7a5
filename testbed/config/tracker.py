"""Where losses are shown while runs are trained; no part of what decides a result."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from testbed.config.strict import Table
from testbed.config.values import FolderName, Text, as_tuple


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else as_tuple(value)


class Tracker(Table):
    """Trackers that are told every loss beside the record, which is each run's evals.jsonl."""

    kind: Annotated[tuple[Literal["tensorboard", "wandb"], ...], BeforeValidator(_one_or_many)] = Field(
        min_length=1, description='"tensorboard", "wandb" or a list of both'
    )
    project: FolderName | None = Field(None, description="W&B's project; the study's name if not given")
    entity: Text | None = Field(None, description="W&B's user or team; its default if not given")
    offline: bool = Field(
        False, description="W&B: keep everything on disk, for wandb sync (as WANDB_MODE=offline does)"
    )
    dir: FolderName = Field("trackers", description="where they write, a folder in the sweep's")
