"""A study: plan, train, fit, seal, train the target, judge, report; and what is asked of a study as a whole.

`Study` and the steps of its plan are imported when they are first used, since they bring torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.study.study import Study, design_of, device_and_workers, engines, settle, timetable

__all__ = ["Study", "design_of", "device_and_workers", "engines", "settle", "timetable"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("testbed.study.study"), name)
    raise AttributeError(f"module 'testbed.study' has no attribute {name!r}")
