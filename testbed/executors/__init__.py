"""The only place that starts processes: executors run specs and say how each ended.

A new executor is one class with `run(sweep, specs, watcher)`, and its line in EXECUTORS.
"""

from __future__ import annotations

from testbed.executors.local import LocalExecutor, Watcher, default_workers
from testbed.executors.packing import Timetable, choose_packs, settle_packs
from testbed.executors.run import Outcome

EXECUTORS = {"local": LocalExecutor}

__all__ = [
    "EXECUTORS",
    "LocalExecutor",
    "Outcome",
    "Timetable",
    "Watcher",
    "choose_packs",
    "default_workers",
    "settle_packs",
]
