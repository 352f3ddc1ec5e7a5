"""The only place that starts processes: executors run specs and say how each ended.

A new executor is one class (see `executor.Executor`), and its line in EXECUTORS.
"""

from __future__ import annotations

from testbed.config import Execution
from testbed.errors import ConfigError
from testbed.registry import find_class
from testbed.training.executors.engines import Engines, choose_engines
from testbed.training.executors.executor import Executor, Watcher
from testbed.training.executors.local import LocalExecutor, default_workers
from testbed.training.executors.pack_choice import Timetable, choose_packs, settle_packs
from testbed.training.executors.ray_cluster import RayExecutor
from testbed.training.executors.scheduler import train_all
from testbed.training.executors.slurm import SlurmExecutor
from testbed.training.executors.trackers import tracked
from testbed.training.executors.training_run import Outcome

EXECUTORS: dict[str, type[Executor]] = {"local": LocalExecutor, "slurm": SlurmExecutor, "ray": RayExecutor}


def make_executor(execution: Execution) -> Executor:
    """The executor that the settings name, listed in EXECUTORS or "package.module:Class"."""
    name = execution.executor
    if name in EXECUTORS:
        return EXECUTORS[name].configured(execution)
    if "." in name and ":" in name:
        made: Executor = find_class(name, "execution.executor", ("configured", "run", "adopts")).configured(execution)
        return made
    raise ConfigError(f'execution.executor: found {name!r}; accepted: {", ".join(EXECUTORS)} or "package.module:Class"')


__all__ = [
    "EXECUTORS",
    "Engines",
    "Executor",
    "LocalExecutor",
    "Outcome",
    "Timetable",
    "Watcher",
    "choose_engines",
    "choose_packs",
    "default_workers",
    "make_executor",
    "settle_packs",
    "tracked",
    "train_all",
]
