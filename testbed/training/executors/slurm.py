"""A Slurm cluster: the packs of a sweep are the tasks of one array job, which submitit submits.

An array has one request for resources, so packs that need another amount of memory or number of processes
form an array of their own. Slurm schedules the jobs, requeues them after a time limit, a pre-emption or a node
failure, and keeps them when the launcher is killed: the next launch adopts the jobs that it finds in the queue.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from testbed.config import Execution
from testbed.errors import ConfigError
from testbed.registry import require
from testbed.training.executors.cluster import run_tasks
from testbed.training.executors.executor import Watcher
from testbed.training.executors.slurm_jobs import SlurmJobs
from testbed.training.executors.training_run import Outcome
from testbed.training.store import SweepFolder
from testbed.training.sweep import Pack


@dataclass
class SlurmExecutor:
    """Runs packs as jobs of a Slurm cluster."""

    execution: Execution

    @classmethod
    def configured(cls, execution: Execution) -> Self:
        """The executor of these settings; ConfigError where submitit or Slurm's commands are missing."""
        require("submitit", "slurm", 'execution.executor: "slurm"')
        missing = [name for name in ("sbatch", "squeue", "scancel", "srun") if shutil.which(name) is None]
        if missing:
            raise ConfigError(
                f'execution.executor: "slurm" needs Slurm\'s commands, and {", ".join(missing)} cannot be found; give the '
                "command on a machine from which a Slurm cluster takes jobs, or use --executor local"
            )
        return cls(execution)

    def run(self, sweep: SweepFolder, packs: Sequence[Pack], watcher: Watcher) -> list[Outcome]:
        """Run every pack as a job; see executor.Executor.run. A killed launcher leaves its jobs running."""
        with ExitStack() as stack:
            return run_tasks(SlurmJobs(sweep, self.execution, stack), sweep, packs, watcher)

    def adopts(self, sweep: SweepFolder, packs: Sequence[Pack]) -> list[Pack]:
        """The packs that jobs of an earlier launch, whose launcher has died, train or will train."""
        with ExitStack() as stack:
            return SlurmJobs(sweep, self.execution, stack).adopt(packs)[0]
