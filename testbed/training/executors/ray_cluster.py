"""A Ray cluster: each pack is one remote task, on cores or fractions of GPUs that Ray assigns.

Ray schedules. A task that is lost with its node is submitted again, and resumes from the checkpoint in
the shared folder. Ray pickles what passes between the launcher and its tasks: a function of this package by
its name, and plain strings.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from testbed.config import Execution
from testbed.config.execution import Ray
from testbed.errors import ConfigError
from testbed.registry import require
from testbed.training.executors.cluster import Answer, EndedTask, device_type, run_tasks, task_arguments, train_pack
from testbed.training.executors.executor import Watcher
from testbed.training.executors.training_run import Outcome
from testbed.training.store import SweepFolder
from testbed.training.sweep import Pack, cost

_CONNECT = 10.0  # seconds that a cluster's head may take to answer
_POLL = 1.0  # seconds between two readings of the folders
_PATIENCE = 90.0  # seconds that tasks may take to write their checkpoints


@dataclass
class RayExecutor:
    """Runs packs as tasks of a Ray cluster."""

    execution: Execution

    @classmethod
    def configured(cls, execution: Execution) -> Self:
        """The executor of these settings; ConfigError where Ray is missing."""
        require("ray", "ray", 'execution.executor: "ray"')
        return cls(execution)

    def run(self, sweep: SweepFolder, packs: Sequence[Pack], watcher: Watcher) -> list[Outcome]:
        """Run every pack as a task; see executor.Executor.run. Tasks end with their launcher."""
        import ray

        settings = self.execution.ray or Ray()
        connects = not ray.is_initialized()
        if connects:
            _connect(settings)
        try:
            return run_tasks(_RayTasks(sweep, self.execution, settings), sweep, packs, watcher)
        finally:
            if connects:
                ray.shutdown()

    def adopts(self, sweep: SweepFolder, packs: Sequence[Pack]) -> list[Pack]:
        """None: tasks end with their launcher."""
        return []


def _connect(settings: Ray) -> None:
    import ray

    consent = {name: value for name, value in os.environ.items() if name.startswith("TESTBED_")}
    try:
        _reach(settings.address)
        ray.init(
            address=settings.address,
            logging_level="WARNING",
            log_to_driver=False,
            runtime_env={"env_vars": consent},
            **({"include_dashboard": False} if settings.address == "local" else {}),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f'execution.ray.address: found "{settings.address}", where no Ray cluster answers ({error}); start one with '
            '"ray start --head", or use "local"'
        ) from None


def _reach(address: str) -> None:
    """Raise OSError where nothing answers at "host:port"; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT).close()


class _RayTasks:
    """The tasks of one launch (see cluster.ClusterTasks)."""

    def __init__(self, sweep: SweepFolder, execution: Execution, settings: Ray) -> None:
        self._sweep, self._execution, self._settings = sweep, execution, settings
        self._device = device_type(execution)
        self._waiting: list[Pack] = []
        self._at_work: dict[Any, Pack] = {}  # by Ray's reference

    def submit(self, packs: Sequence[Pack]) -> list[Pack]:
        """Submit the packs, the longest first; at most execution.workers at a time, if that is set."""
        self._waiting = sorted(packs, key=cost)  # the last is taken first
        self._fill()
        return []

    def resubmit(self, pack: Pack) -> None:
        """Submit another task for a pack whose task died."""
        self._waiting.append(pack)
        self._fill()

    def wait(self) -> list[EndedTask]:
        """The tasks that have ended, after a second at most."""
        import ray

        references = list(self._at_work)
        ray.wait(references, num_returns=1, timeout=_POLL)
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        ended = [self._ended(self._at_work.pop(reference), reference) for reference in ready]
        self._fill()
        return ended

    def stop(self) -> None:
        """Interrupt every task, and wait until they have written their checkpoints."""
        import ray

        self._waiting.clear()
        for reference in self._at_work:
            ray.cancel(reference)
        if self._at_work:
            ray.wait(list(self._at_work), num_returns=len(self._at_work), timeout=_PATIENCE)
        self._at_work.clear()

    def _ended(self, pack: Pack, reference: Any) -> EndedTask:
        import ray

        try:
            answer: Answer = ray.get(reference)
        except ray.exceptions.RayError as error:
            return EndedTask(pack, None, type(error).__name__, str(error))
        return EndedTask(pack, answer)

    def _fill(self) -> None:
        import ray

        while self._waiting and len(self._at_work) < (
            self._execution.workers or len(self._waiting) + len(self._at_work)
        ):
            pack = self._waiting.pop()
            count = pack[0].engine.processes
            gpus = 0.0 if self._device == "cpu" else float(count) if count > 1 else self._settings.gpus
            task = ray.remote(train_pack).options(
                num_cpus=count * self._settings.cpus, num_gpus=gpus, max_retries=0, name=pack[0].run_id
            )
            self._at_work[task.remote(*task_arguments(self._sweep, pack, self._device))] = pack
