"""Executors train the runs of a sweep in processes, on this machine, Slurm or Ray; nothing else starts processes.

A new executor is one class (see `executor.Executor`) and its line in EXECUTORS; or an entry point of an installed
package in the group testbed.executors; or "package.module:Class" in a configuration.
"""

from __future__ import annotations

from testbed.config import Execution
from testbed.registry import Registry
from testbed.training.executors.engines import Engines, choose_engines
from testbed.training.executors.executor import Executor, Watcher
from testbed.training.executors.local import LocalExecutor, default_workers
from testbed.training.executors.pack_choice import Timetable, choose_packs, settle_packs
from testbed.training.executors.scheduler import train_all
from testbed.training.executors.trackers import tracked
from testbed.training.executors.training_run import Outcome

EXECUTORS = Registry(
    "execution.executor",
    "testbed.executors",
    {
        "local": "testbed.training.executors.local:LocalExecutor",
        "slurm": "testbed.training.executors.slurm:SlurmExecutor",
        "ray": "testbed.training.executors.ray_cluster:RayExecutor",
    },
    ("configured", "run", "adopts"),
)


def make_executor(execution: Execution) -> Executor:
    """The executor that the settings name.

    Raises:
        ConfigError: There is no such executor, or the user has not agreed to run its code.
    """
    executor: Executor = EXECUTORS.find(execution.executor).configured(execution)
    return executor


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
