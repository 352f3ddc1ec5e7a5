"""The processes of a run that several train together: a worker is rank 0 and starts the other ranks.

The other ranks read the run's folder and never write. They end with their worker, when their input closes;
a worker that loses one of them ends too, and its executor replaces it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from testbed.records import RunSpec
from testbed.training.data import open_source
from testbed.training.store import SweepFolder
from testbed.training.train import Paused, train
from testbed.training.train.ranks import join

_GRACE = 10.0  # seconds after the error of another rank in which a worker may record its own, often of the same cause


@contextmanager
def rank_processes(sweep: SweepFolder, spec: RunSpec, device: torch.device) -> Iterator[None]:
    """Start the other ranks of the run, with this process as rank 0, and end them after the block."""
    count = spec.engine.processes
    if count == 1:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting, over = Path(folder) / "meeting", threading.Event()
        others = [_start(sweep, spec, device, rank, meeting) for rank in range(1, count)]
        for other in others:
            threading.Thread(target=_watch, args=(other, over), daemon=True).start()
        join(0, count, meeting, device)
        try:
            yield
        finally:
            if any((other.poll() or 0) < 0 for other in others):
                os._exit(1)  # it was killed, so an error that its silence caused here is not the run's own
            over.set()
            for other in others:
                other.kill()
                other.wait()


def _start(
    sweep: SweepFolder, spec: RunSpec, device: torch.device, rank: int, meeting: Path
) -> subprocess.Popen[bytes]:
    arguments = [str(sweep.path), spec.run_id, device.type, str(rank), str(meeting)]
    return subprocess.Popen(
        [sys.executable, "-m", "testbed.training.executors.rank_processes", *arguments], stdin=subprocess.PIPE
    )


def _watch(other: subprocess.Popen[bytes], over: threading.Event) -> None:
    status = other.wait()
    if (status < 0 or not over.wait(_GRACE)) and not over.is_set():
        print(f"process {other.pid} of the run died (exit status {status})", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)


def main() -> None:
    """Train as process RANK of the run; the arguments are FOLDER RUN_ID DEVICE RANK MEETING."""
    folder, run_id, kind, rank, meeting = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # rank 0 gets the request to stop, and passes it on
    threading.Thread(target=_end_with_input, daemon=True).start()
    device = torch.device(kind, int(rank)) if kind == "cuda" else torch.device(kind)
    if kind == "cpu":
        torch.set_num_threads(1)
    sweep = SweepFolder.open(Path(folder))
    run = sweep.find(run_id)
    source = open_source(sweep.config.at(run.spec.cell).data)
    # read before the ranks meet: until then rank 0 adds none
    recorded = frozenset(evaluation.key for evaluation in run.evals())
    join(int(rank), run.spec.engine.processes, Path(meeting), device)
    try:
        for _ in train((run.spec,), source, (run.checkpoints,), device, (recorded,)):
            pass
    except Paused:
        pass
    while True:  # rank 0 may still wait for what this one has sent
        time.sleep(60)


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
