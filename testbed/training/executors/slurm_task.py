"""A job of the slurm executor: one pack, trained until it is done or the job is asked to stop.

Slurm asks before the time limit (SIGUSR2, as requested by submitit), at a pre-emption and at `scontrol
requeue` (SIGTERM); the launcher asks when it is interrupted itself (SIGINT). Each time a checkpoint is
written. After a time limit or a pre-emption submitit then requeues the job.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import FrameType
from typing import Any

from testbed.files import write_json
from testbed.training.executors.cluster import Answer, train_pack

_STOPS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


class SlurmTask:
    """Called by submitit in a job, with plain strings: the file for the answer, then the arguments of `train_pack`.

    submitit pickles it between the launcher and its jobs; it has no state.
    """

    def __call__(self, answer: str, *arguments: str) -> None:
        """Train the pack and write the answer; does not return where the job is requeued."""
        path = Path(answer)
        path.unlink(missing_ok=True)  # written by an earlier start of the same job
        requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's: see `checkpoint`
        stop = _StopSignal()
        for number in _STOPS:
            signal.signal(number, stop)
        try:
            result = train_pack(*arguments)
        except KeyboardInterrupt:
            result = _paused(arguments[1])
        stop.interrupts = False
        paused = any(outcome["ending"] == "paused" for outcome in result.get("outcomes", ()))
        if paused and (stop.number == signal.SIGUSR2 or (stop.number == signal.SIGTERM and _is_running())):
            requeue(signal.SIGUSR2, None)
        write_json(path, result)

    def checkpoint(self, *arguments: str) -> Any:
        """Called by submitit for a job that is requeued: it does the same again, from the checkpoint in the folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(SlurmTask(), *arguments)


class _StopSignal:
    """A signal handler: the first signal interrupts the training, later ones do nothing."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.interrupts = True

    def __call__(self, number: int, frame: FrameType | None) -> None:
        first, self.number = self.number is None, self.number or number
        if first and self.interrupts:
            raise KeyboardInterrupt


def _paused(run_ids: str) -> Answer:
    return {"outcomes": [{"run_id": run_id, "ending": "paused", "reason": ""} for run_id in run_ids.split()]}


def _is_running() -> bool:
    """Whether Slurm counts the job as running: then it is being pre-empted, not cancelled or already requeued."""
    array, number = (os.environ.get(name) for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"))
    # the last job of an array has the array's own id, for which squeue would list all of them
    job = f"{array}_{number}" if array else os.environ["SLURM_JOB_ID"]
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.stdout.strip() == "RUNNING"
