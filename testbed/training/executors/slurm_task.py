"""A job of the slurm executor: one pack, trained until it is done or the job is told to stop.

Slurm tells it so before the time limit (SIGUSR2, as submitit asks), at a pre-emption and at `scontrol
requeue` (SIGTERM); the launcher does when it is interrupted itself (SIGINT). Each time a checkpoint is
written. Then submitit queues the job again if its time is over or a pre-empted job's node is needed.
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


class Task:
    """What submitit calls in a job, with plain strings: the file for the answer, then the arguments of `train_pack`.

    submitit pickles it between our launcher and our own jobs; it holds nothing.
    """

    def __call__(self, answer: str, *arguments: str) -> None:
        """Train the pack and write the answer; where the job is queued again, this does not return."""
        path = Path(answer)
        path.unlink(missing_ok=True)  # of an earlier start of the same job
        queue_again: Any = signal.getsignal(signal.SIGUSR2)  # submitit's: see `checkpoint`
        told = _Told()
        for number in _STOPS:
            signal.signal(number, told)
        try:
            said = train_pack(*arguments)
        except KeyboardInterrupt:
            said = _paused(arguments[1])
        told.interrupts = False
        paused = any(outcome["ending"] == "paused" for outcome in said.get("outcomes", ()))
        if paused and (told.number == signal.SIGUSR2 or (told.number == signal.SIGTERM and _is_running())):
            queue_again(signal.SIGUSR2, None)
        write_json(path, said)

    def checkpoint(self, *arguments: str) -> Any:
        """What submitit has the job do when it is started again: the same, from the checkpoint in the folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Task(), *arguments)


class _Told:
    """A signal handler: the first signal interrupts the training, once."""

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
    """Whether Slurm still counts the job as running: it is pre-empted then, and neither cancelled nor queued again already."""
    array, number = (os.environ.get(name) for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"))
    # the last job of an array has the array's own id, by which squeue would tell of all of them
    job = f"{array}_{number}" if array else os.environ["SLURM_JOB_ID"]
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.stdout.strip() == "RUNNING"
