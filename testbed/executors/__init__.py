"""The only place that starts processes: executors run specs and say how each ended.

A new executor is one class with `run(sweep, specs, watcher)`, and its line in EXECUTORS.
"""

from __future__ import annotations

from testbed.executors.engines import Engines, choose_engines
from testbed.executors.local import LocalExecutor, Watcher, default_workers
from testbed.executors.packing import Timetable, choose_packs, settle_packs
from testbed.executors.run import Outcome

EXECUTORS = {"local": LocalExecutor}

__all__ = [
    "EXECUTORS",
    "Engines",
    "LocalExecutor",
    "Outcome",
    "Timetable",
    "Watcher",
    "choose_engines",
    "choose_packs",
    "default_workers",
    "settle_packs",
]
