"""A worker process: takes run ids on its standard input, answers with JSON lines, one run at a time.

Started as `python -m testbed.executors.worker FOLDER DEVICE CHECKPOINT_SECONDS` by an executor, with
the thread counts in its environment. When its input ends, or it is told to stop, it writes a
checkpoint and leaves: a launcher that was killed never leaves orphans at work.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

import torch

from testbed.data import open_source
from testbed.errors import TestbedError
from testbed.executors.run import run_one
from testbed.records import Eval, as_json
from testbed.store import SweepFolder
from testbed.train import Interruptions, Progress, choose_device


def main() -> None:
    """Answer every run id with its events and its outcome."""
    folder, device_name, checkpoint_seconds = sys.argv[1:]
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes to the log
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    orders: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_listen, args=(orders, stop), daemon=True).start()
    device = choose_device(device_name)
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        sweep = SweepFolder.open(Path(folder))
        source = open_source(sweep.config.data)
        interruptions = Interruptions(stop.is_set, float(checkpoint_seconds))
        while (run_id := orders.get()) is not None and not stop.is_set():
            spec = sweep.find(run_id).spec

            def report(event: Eval | Progress, run_id: str = run_id) -> None:
                _answer(answers, run_id, event)

            outcome = run_one(sweep, spec, source, device, interruptions, report)
            _say(answers, {"event": outcome.ending, "run": run_id, "reason": outcome.reason})
    except TestbedError as error:
        _say(answers, {"event": "error", "message": str(error)})


def _listen(orders: queue.Queue[str | None], stop: threading.Event) -> None:
    for line in sys.stdin:
        orders.put(line.strip())
    stop.set()
    orders.put(None)


def _answer(answers: TextIO, run_id: str, event: Eval | Progress) -> None:
    if isinstance(event, Eval):
        _say(answers, {"event": "eval", "run": run_id, "eval": as_json(event)})
    else:
        _say(answers, {"event": "progress", "run": run_id, "steps": event.steps})


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(message) + "\n")
        answers.flush()
    except BrokenPipeError:  # the launcher is gone; _listen has noticed too
        answers = open(os.devnull, "w")  # noqa: SIM115, PTH123


if __name__ == "__main__":
    main()
