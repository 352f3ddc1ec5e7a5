"""A worker process: takes packs on its standard input (the run ids of one pack a line), and answers in `worker_messages`.

Started by an executor as `python -m testbed.training.executors.worker FOLDER DEVICE`, with the thread
counts in its environment. When its input ends or a signal asks it to stop, it writes a
checkpoint and leaves, so that a killed launcher leaves no workers behind.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TextIO

import torch

from testbed.errors import TestbedError
from testbed.records import Eval, RunSpec
from testbed.training.data import open_source
from testbed.training.executors.rank_processes import rank_processes
from testbed.training.executors.training_run import run_pack
from testbed.training.executors.worker_messages import (
    LossLogged,
    Message,
    PackEnded,
    Ready,
    StepsDone,
    WorkerFailed,
    encode,
)
from testbed.training.store import SweepFolder
from testbed.training.train import Interruptions, Progress, choose_device


def main() -> None:
    """Train every pack that is given, and report its events and outcomes."""
    folder, device_name = sys.argv[1:]
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes to the log
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("testbed").setLevel(logging.INFO)
    stop = threading.Event()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR2,
    ):  # the last is Slurm's, to all of a job
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, lambda *_: stop.set())
    orders: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_listen, args=(orders, stop), daemon=True).start()
    device = choose_device(device_name)
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        sweep = SweepFolder.open(Path(folder))
        interruptions = Interruptions(stop.is_set, sweep.config.execution.checkpoint_seconds)
        _say(answers, Ready())
        while (order := orders.get()) is not None and not stop.is_set():
            specs = tuple(sweep.find(run_id).spec for run_id in order.split())
            source = open_source(sweep.config.at(specs[0].cell).data)
            with rank_processes(sweep, specs[0], device):
                outcomes = run_pack(sweep, specs, source, device, interruptions, partial(_report, answers))
            _say(answers, PackEnded(tuple(outcomes)))
            if specs[0].engine.processes > 1:
                os._exit(0)  # process groups do not always shut down cleanly; the executor starts another worker
    except TestbedError as error:
        _say(answers, WorkerFailed(str(error)))


def _listen(orders: queue.Queue[str | None], stop: threading.Event) -> None:
    for line in sys.stdin:
        orders.put(line.strip())
    stop.set()
    orders.put(None)


def _report(answers: TextIO, spec: RunSpec, event: Eval | Progress) -> None:
    if isinstance(event, Eval):
        _say(answers, LossLogged(spec.run_id, event))
    else:
        _say(answers, StepsDone(spec.run_id, event.steps))


def _say(answers: TextIO, message: Message) -> None:
    # where the launcher is gone nobody reads it; `_listen` notices too, and stops the training
    with contextlib.suppress(BrokenPipeError):
        answers.write(encode(message) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
