"""A study: plan, train, fit, seal, train the target, judge, report.

`Study` and the steps of its preparation import torch, so they are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.study.preparation import settle
    from testbed.study.study import Study

_HOMES = {"Study": "testbed.study.study", "settle": "testbed.study.preparation"}

__all__ = ["Study", "settle"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'testbed.study' has no attribute {name!r}")
