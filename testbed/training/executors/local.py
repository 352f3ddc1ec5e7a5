"""This machine: one worker process for each core (one thread each) or GPU, the longest runs first."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from testbed.config import Execution
from testbed.errors import ConfigError
from testbed.records import RunSpec
from testbed.training.executors.cpu_quota import usable_cpus
from testbed.training.executors.engines import processes
from testbed.training.executors.executor import Watcher
from testbed.training.executors.training_run import Outcome
from testbed.training.executors.worker_pool import WorkerPool
from testbed.training.store import SweepFolder
from testbed.training.sweep import Pack
from testbed.training.train import choose_device

_FILLING = 1e12  # training FLOPs of a step that keep a GPU busy without a second worker: some 3 ms
_SHARING = 4  # workers a GPU otherwise


@dataclass
class LocalExecutor:
    """Runs specs on the cores or GPUs of this machine; `workers` None is as many as it has (see default_workers)."""

    device: str = "auto"
    workers: int | None = None

    @classmethod
    def configured(cls, execution: Execution) -> Self:
        """The executor of these settings."""
        return cls(execution.device, execution.workers)

    def run(self, sweep: SweepFolder, packs: Sequence[Pack], watcher: Watcher) -> list[Outcome]:
        """Run every pack; outcomes of its runs in the order they ended.

        On KeyboardInterrupt every worker writes a checkpoint and leaves, then it is raised again.
        """
        device = choose_device(self.device)
        slots = self._slots(device, [spec for pack in packs for spec in pack])
        return WorkerPool(sweep, watcher, device.type, slots).train(packs)

    def adopts(self, sweep: SweepFolder, packs: Sequence[Pack]) -> list[Pack]:
        """None: workers end with their launcher."""
        return []

    def _slots(self, device: torch.device, specs: Sequence[RunSpec]) -> list[dict[str, str]]:
        """The environment of each worker: one thread on a core, or one GPU, shared in turn where workers outnumber GPUs.

        A worker whose runs take several processes has as many cores or GPUs.
        """
        taken = processes(specs)
        count = max(1, (self.workers or default_workers(device, specs)) // taken)
        if device.type == "cpu":
            return [dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")] * count
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
        if taken > len(gpus):
            raise ConfigError(f"train.processes: found {taken}, but this machine has {len(gpus)} GPUs; lower it")
        groups = [",".join(gpus[i : i + taken]) for i in range(0, len(gpus) - taken + 1, taken)]
        # cuBLAS reads its workspace's size when it starts; with this one its results repeat
        repeatable = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        return [{"CUDA_VISIBLE_DEVICES": groups[i % len(groups)], **repeatable} for i in range(count)]


def default_workers(device: torch.device, specs: Sequence[RunSpec] = ()) -> int:
    """One worker a core that this process may use, or a GPU; several a GPU for small runs, where they can share it.

    Cores are counted by `usable_cpus`.
    Without NVIDIA's multi-process service the processes of a GPU take turns, and several are no faster than one.
    """
    if device.type == "cuda":
        small = bool(specs) and max(s.batch_tokens * s.counts.flops_per_token for s in specs) < _FILLING
        return torch.cuda.device_count() * (_SHARING if small and _shares_gpus() else 1)
    return usable_cpus()


def _shares_gpus() -> bool:
    """Whether the multi-process service is on: its daemon's pipe is where NVIDIA's variable says, or in its usual place."""
    usual = Path(tempfile.gettempdir(), "nvidia-mps")
    return Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", usual), "control").exists()
