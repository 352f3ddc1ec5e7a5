"""The table [tracker]: where losses are shown while runs are trained, which is not part of a study's identity."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from testbed.config.strict import Table
from testbed.config.values import FolderName, Text, as_tuple


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else as_tuple(value)


class Tracker(Table):
    """The table [tracker]: trackers that receive a copy of every loss; the record is each run's evals.jsonl."""

    kind: Annotated[tuple[Literal["tensorboard", "wandb"], ...], BeforeValidator(_one_or_many)] = Field(
        min_length=1, description='"tensorboard", "wandb" or a list of both'
    )
    project: FolderName | None = Field(None, description="project in W&B; by default the name of the study")
    entity: Text | None = Field(None, description="user or team in W&B; by default that of the login")
    offline: bool = Field(
        False, description="W&B: keep everything on disk, for wandb sync (as WANDB_MODE=offline does)"
    )
    dir: FolderName = Field("trackers", description="folder inside the sweep's in which trackers write")
