"""The jobs of one launch on a Slurm cluster: submitted with submitit or left by an earlier launch, watched, stopped.

`logs/slurm/NAME/` in the sweep's folder is one submission, and NAME the name of its jobs. `packs.json` says
what they train; it is written before the jobs are submitted, so that none can be lost. The same folder holds
submitit's files, the jobs' logs and their answers. Nothing of it is unpickled here.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

from testbed.config import Execution
from testbed.config.execution import Slurm
from testbed.errors import ConfigError, TestbedError
from testbed.files import stay_inside, write_json
from testbed.training.executors.cluster import Answer, EndedTask, device_type, task_arguments
from testbed.training.executors.slurm_queue import JobKey, cancel, queue
from testbed.training.executors.slurm_task import SlurmTask
from testbed.training.store import SweepFolder
from testbed.training.store.lock import Locked, hold
from testbed.training.sweep import Pack, cost
from testbed.training.train import estimate

_GIB = 2**30
_INTERPRETER = _GIB // 2  # bytes of each process for the interpreter and its libraries, the task's own too
_WITH_CUDA = 4 * _GIB  # the same with CUDA's libraries
_ARRAY = 1000  # jobs of an array; Slurm's MaxArraySize is 1001 where a cluster says nothing else
_REQUEUES = 100_000  # as often as it takes: each start of a job resumes where the one before was stopped
_PATIENCE = 90.0  # seconds that jobs may take to write their checkpoints


class Resources(NamedTuple):
    """What each job of an array asks for."""

    processes: int
    memory_gib: int


@dataclass
class _Job:
    pack: Pack
    id: str
    gone: float | None = None  # when it was first seen to be over without an answer


class SlurmJobs:
    """The jobs of one launch (see cluster.ClusterTasks); `stack` holds the locks that show others that it is alive."""

    def __init__(self, sweep: SweepFolder, execution: Execution, stack: ExitStack) -> None:
        self._sweep, self._execution, self._stack = sweep, execution, stack
        self._settings = execution.slurm or Slurm()
        self._device = device_type(execution)
        self._folder = stay_inside(sweep.path, sweep.path / "logs" / "slurm").absolute()
        self._jobs: dict[JobKey, _Job] = {}

    def submit(self, packs: Sequence[Pack]) -> list[Pack]:
        """Adopt the jobs of a dead launcher and submit the other packs, the longest first."""
        adopted, held = self.adopt(packs)
        arrays: dict[Resources, list[Pack]] = {}
        for pack in sorted(packs, key=cost, reverse=True):
            if pack not in adopted and pack not in held:
                arrays.setdefault(resources(pack, self._device, self._settings), []).append(pack)
        for needs, alike in arrays.items():
            for start in range(0, len(alike), _ARRAY):
                self._submit(needs, alike[start : start + _ARRAY])
        return held

    def resubmit(self, pack: Pack) -> None:
        """Submit another job for a pack whose job died."""
        self._submit(resources(pack, self._device, self._settings), [pack])

    def adopt(self, packs: Sequence[Pack]) -> tuple[list[Pack], list[Pack]]:
        """The packs whose jobs are in the queue: those adopted by this launch, and those of a living launcher."""
        recorded = self._recorded(packs)
        if not recorded:
            return [], []
        known = queue(dict.fromkeys(key.submission for key in recorded))
        if known is None:
            raise TestbedError("squeue: Slurm does not answer; repeat the command when it does")
        adopted, held = [], []
        for key, pack in recorded.items():
            job = known.get(key)
            if job is None or job.over:
                continue
            if self._owns(key.submission):
                self._jobs[key] = _Job(pack, job.id)
                adopted.append(pack)
            else:
                held.append(pack)
        return adopted, held

    def wait(self) -> list[EndedTask]:
        """The jobs that have ended.

        One without an answer counts as dead only after execution.lease_seconds: a shared disk may show the answer late.
        """
        time.sleep(self._settings.poll)
        known = queue({key.submission for key in self._jobs})
        ended = []
        for key, job in list(self._jobs.items()) if known is not None else ():
            shown = (known or {}).get(key)
            if shown is not None and not shown.over:
                job.gone = None
                continue
            answer = self._answer(key)
            job.gone = job.gone or time.monotonic()
            if answer is None and time.monotonic() - job.gone < self._execution.lease_seconds:
                continue
            del self._jobs[key]
            log = self._folder / key.submission / f"{job.id}_0_log.out"
            state = shown.state if shown else "no longer in the queue"
            text = log.read_text(errors="replace") if log.exists() else ""
            ended.append(EndedTask(job.pack, answer, f"Slurm's job {job.id}: {state}; see {log}", text))
        return ended

    def stop(self) -> None:
        """Cancel the waiting jobs, interrupt the running ones, and cancel those that have not left in time."""
        deadline = time.monotonic() + _PATIENCE
        ids = [job.id for job in self._jobs.values()]
        interrupted: set[str] = set()
        while self._jobs:
            cancel(ids, "--state=PENDING")
            known = queue({key.submission for key in self._jobs})
            left = {job.id: job for key, job in (known or {}).items() if key in self._jobs and not job.over}
            if known is not None and not left:
                break
            running = [job.id for job in left.values() if job.state == "RUNNING" and job.id not in interrupted]
            cancel(running, "--signal=INT")
            interrupted.update(running)
            if time.monotonic() > deadline:
                cancel(ids)
                break
            time.sleep(min(1.0, self._settings.poll))
        self._jobs.clear()

    def _submit(self, needs: Resources, packs: Sequence[Pack]) -> None:
        """Submit packs that need the same as one array."""
        import submitit

        name = f"{self._sweep.config.name}-{uuid.uuid4().hex[:12]}"
        folder = self._folder / name
        if not str(folder).isprintable() or "%" in str(folder) or "\\" in str(folder):
            raise ConfigError(
                f"{self._sweep.path}: Slurm gives % and \\ in a path a meaning of its own; give another folder (--out)"
            )
        write_json(folder / "packs.json", {"packs": [[spec.run_id for spec in pack] for pack in packs]})
        self._owns(name)
        executor = submitit.SlurmExecutor(folder, max_num_timeout=_REQUEUES)
        arguments = [task_arguments(self._sweep, pack, self._device) for pack in packs]
        answers = [str(folder / f"{index}.json") for index in range(len(packs))]
        try:
            executor.update_parameters(**self._parameters(name, needs, len(packs)))
            jobs = executor.map_array(SlurmTask(), answers, *zip(*arguments, strict=True))
        except submitit.core.utils.UncompletedJobError as error:
            raise ConfigError(f"execution.slurm: sbatch refuses the jobs: {error}") from None
        for index, (pack, job) in enumerate(zip(packs, jobs, strict=True)):
            self._jobs[JobKey(name, index)] = _Job(pack, job.job_id)

    def _parameters(self, name: str, needs: Resources, count: int) -> dict[str, Any]:
        settings = self._settings
        named: dict[str, Any] = {"partition": settings.partition, "account": settings.account, "qos": settings.qos}
        if self._device == "cuda":
            named |= {"gpus_per_node": needs.processes}
        return {
            "job_name": name,
            "time": math.ceil(settings.time / 60),
            "nodes": 1,
            "cpus_per_task": needs.processes * settings.cpus,
            "mem": f"{needs.memory_gib}G",
            "signal_delay_s": round(settings.notice),
            "array_parallelism": min(count, self._execution.workers or count),
            "stderr_to_stdout": True,
            "additional_parameters": {"requeue": True} | {k.replace("-", "_"): v for k, v in settings.extra.items()},
            **{key: value for key, value in named.items() if value is not None},
        }

    def _recorded(self, packs: Sequence[Pack]) -> dict[JobKey, Pack]:
        """Every job that was ever submitted for one of these packs."""
        wanted = {tuple(spec.run_id for spec in pack): pack for pack in packs}
        found = {}
        for path in self._folder.glob("*/packs.json"):
            for index, run_ids in enumerate(json.loads(path.read_text())["packs"]):
                if tuple(run_ids) in wanted:
                    found[JobKey(path.parent.name, index)] = wanted[tuple(run_ids)]
        return found

    def _owns(self, name: str) -> bool:
        """Whether the submission is this launch's: its own, or one whose launcher no longer holds the lock."""
        if any(key.submission == name for key in self._jobs):
            return True
        try:
            self._stack.enter_context(hold(self._folder / name / "lock", "", patience=0.0))
        except Locked:
            return False
        return True

    def _answer(self, key: JobKey) -> Answer | None:
        with contextlib.suppress(OSError):
            answer: Answer = json.loads((self._folder / key.submission / f"{key.number}.json").read_text())
            return answer
        return None


def resources(pack: Pack, device: str, settings: Slurm) -> Resources:
    """What a pack's job asks for: a core or a GPU for each process, and the host memory that they are expected to need.

    Memory is a power of two in GiB, so that most packs of a sweep ask for the same. With GPUs it is the
    memory of the libraries and of what a checkpoint gathers on the host.
    """
    count = pack[0].engine.processes
    if settings.memory is not None:
        return Resources(count, math.ceil(settings.memory / _GIB))
    memory = estimate(pack[0])
    each = _WITH_CUDA + memory.weights + memory.moments if device == "cuda" else _INTERPRETER + 5 * memory.bytes // 4
    return Resources(count, 1 << math.ceil(math.log2((_INTERPRETER + count * each) / _GIB)))
