"""What Slurm says of jobs, and what it is told, through its own commands."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
_OVER |= {"REVOKED", "TIMEOUT"}

_log = logging.getLogger("testbed")


class Place(NamedTuple):
    """Where a job stands: the name of its submission, which no other has, and its index there."""

    submission: str
    number: int


class Known(NamedTuple):
    """What Slurm calls a job, and the state it is in."""

    id: str
    state: str

    @property
    def over(self) -> bool:
        """Whether it will never run again."""
        return self.state in _OVER


def queue(names: Iterable[str]) -> dict[Place, Known] | None:
    """Every job of these submissions that Slurm still knows; None where it does not answer.

    Without Slurm's accounting, which a cluster may lack, it forgets jobs some minutes after their end.
    """
    command = ["squeue", "--array", "--noheader", "--states=all", "--format=%j|%i|%K|%T", f"--name={','.join(names)}"]
    answer = _run(command)
    if answer is None:
        return None
    lines = (line.strip().split("|") for line in answer.splitlines() if line.strip())
    return {Place(name, int(index) if index.isdecimal() else 0): Known(job, state) for name, job, index, state in lines}


def cancel(jobs: Sequence[str], *options: str) -> None:
    """Cancel or signal these jobs, with its options; what is over already is no matter."""
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
