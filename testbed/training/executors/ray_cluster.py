"""A Ray cluster: each pack is one remote task, with cores and fractions of GPUs as Ray hands them out.

Ray schedules; a task that is lost with its node is submitted again, and goes on from the checkpoint in
the shared folder. Ray pickles what passes between our launcher and our own tasks: a function of this
package by its name, and plain strings.
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
from testbed.training.executors.cluster import Answer, Ended, attend, device_type, task_arguments, train_pack
from testbed.training.executors.executor import Watcher
from testbed.training.executors.training_run import Outcome
from testbed.training.store import SweepFolder
from testbed.training.sweep import Pack, cost

_REACH = 10.0  # seconds that a cluster's head may take to answer
_LOOK = 1.0  # seconds between looks at the folders
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
        """Run every pack as a task; see executor.Executor.run. The tasks of a launcher that is killed end with it."""
        import ray

        settings = self.execution.ray or Ray()
        connects = not ray.is_initialized()
        if connects:
            _connect(settings)
        try:
            return attend(_Tasks(sweep, self.execution, settings), sweep, packs, watcher)
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
    """OSError where nothing answers at "host:port": Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()


class _Tasks:
    """The tasks of one launch (see elsewhere.Tasks)."""

    def __init__(self, sweep: SweepFolder, execution: Execution, settings: Ray) -> None:
        self._sweep, self._execution, self._settings = sweep, execution, settings
        self._device = device_type(execution)
        self._waiting: list[Pack] = []
        self._at_work: dict[Any, Pack] = {}  # by Ray's reference

    def begin(self, packs: Sequence[Pack]) -> list[Pack]:
        """Submit all, or as many at a time as there are to be workers; the longest is taken first, from the end."""
        self._waiting = sorted(packs, key=cost)
        self._fill()
        return []

    def again(self, pack: Pack) -> None:
        """Submit a pack whose task died."""
        self._waiting.append(pack)
        self._fill()

    def wait(self) -> list[Ended]:
        """The tasks that have ended."""
        import ray

        references = list(self._at_work)
        ray.wait(references, num_returns=1, timeout=_LOOK)
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        over = [self._ended(self._at_work.pop(reference), reference) for reference in ready]
        self._fill()
        return over

    def stop(self) -> None:
        """Interrupt every task."""
        import ray

        self._waiting.clear()
        for reference in self._at_work:
            ray.cancel(reference)
        if self._at_work:
            ray.wait(list(self._at_work), num_returns=len(self._at_work), timeout=_PATIENCE)
        self._at_work.clear()

    def _ended(self, pack: Pack, reference: Any) -> Ended:
        import ray

        try:
            answer: Answer = ray.get(reference)
        except ray.exceptions.RayError as error:
            return Ended(pack, None, type(error).__name__, str(error))
        return Ended(pack, answer)

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
            self._at_work[task.remote(*task_arguments(self._sweep, pack, self._device, self._execution))] = pack
