"""Slurm's queue, through its own commands: the states of jobs, and their cancellation."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
_ENDED |= {"REVOKED", "TIMEOUT"}

_log = logging.getLogger("testbed")


class JobKey(NamedTuple):
    """Identifies a job: the unique name of its submission, and its index there."""

    submission: str
    number: int


class QueuedJob(NamedTuple):
    """A job as Slurm shows it: its id and its state."""

    id: str
    state: str

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return self.state in _ENDED


def queue(names: Iterable[str]) -> dict[JobKey, QueuedJob] | None:
    """Every job of these submissions that Slurm still shows; None where it does not answer.

    A cluster without accounting forgets jobs some minutes after their end.
    """
    command = ["squeue", "--array", "--noheader", "--states=all", "--format=%j|%i|%K|%T", f"--name={','.join(names)}"]
    answer = _run(command)
    if answer is None:
        return None
    lines = (line.strip().split("|") for line in answer.splitlines() if line.strip())
    return {
        JobKey(name, int(index) if index.isdecimal() else 0): QueuedJob(job, state) for name, job, index, state in lines
    }


def cancel(jobs: Sequence[str], *options: str) -> None:
    """Cancel or signal these jobs, with these options of scancel; jobs that have ended are ignored."""
    for start in range(0, len(jobs), 500):
        _run(["scancel", "--quiet", *options, *jobs[start : start + 500]])


def _run(command: Sequence[str]) -> str | None:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("%s: %s", command[0], error)
        return None
    if answer.returncode != 0:
        _log.warning("%s: %s", command[0], answer.stderr.strip())
        return None
    return answer.stdout
