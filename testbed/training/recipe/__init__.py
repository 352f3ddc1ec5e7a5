"""Components of a training recipe: schedules of the learning rate, and parts that act in every step.

A new one is one file with one class (see `schedule.Schedule` and `part.Part`) and its line here.
"""

from __future__ import annotations

from testbed.records import Component
from testbed.registry import Registry
from testbed.training.recipe.part import Attached, Part
from testbed.training.recipe.schedule import Schedule

SCHEDULES = Registry(
    "train.schedule",
    "testbed.schedules",
    {"wsd": "testbed.training.recipe.wsd:WarmupStableDecay", "cosine": "testbed.training.recipe.cosine:Cosine"},
    ("factor",),
)
PARTS = Registry(
    "train.parts", "testbed.parts", {"prune": "testbed.training.recipe.prune:Prune"}, ("columns", "attach")
)


def schedule_of(component: Component) -> Schedule:
    """The schedule named by a run, with its settings."""
    found = SCHEDULES.find(component.name)
    made: Schedule = found(found.Settings.model_validate(component.settings))
    return made


def part_of(component: Component) -> Part:
    """The part named by a run, with its settings."""
    found = PARTS.find(component.name)
    made: Part = found(found.Settings.model_validate(component.settings))
    return made


__all__ = ["PARTS", "SCHEDULES", "Attached", "Part", "Schedule", "part_of", "schedule_of"]
