"""This machine: one worker process a core (one thread each) or a GPU, the longest runs first."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from testbed.config import Execution
from testbed.errors import ConfigError, TestbedError
from testbed.files import not_writable, stay_inside
from testbed.records import Eval, RunSpec
from testbed.training.executors.engines import processes
from testbed.training.executors.executor import ATTEMPTS, Attempts, Watcher
from testbed.training.executors.training_run import Outcome
from testbed.training.store import SweepFolder
from testbed.training.sweep import Pack, cost
from testbed.training.train import choose_device

_FILLING = 1e12  # training FLOPs of a step that keep a GPU busy by themselves: some 3 ms
_SHARING = 4  # workers a GPU otherwise
_PATIENCE = 60.0  # seconds that a worker may take to write its checkpoint
_STILLBORN = 10  # workers in a row that die before they say anything: then it is not chance
_GRACE = 5.0  # seconds after which a worker that should have ended itself is ended


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    log: Path
    pack: Pack = ()
    heard: float | None = None  # when it last said something; None until it is ready


@dataclass
class LocalExecutor:
    """Runs specs on the cores or GPUs of this machine."""

    device: str = "auto"
    workers: int | None = None
    checkpoint_seconds: float = 60.0
    hang_seconds: float = 900.0
    _stillborn: int = field(default=0, repr=False)
    _events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = field(default_factory=queue.Queue, repr=False)

    @classmethod
    def configured(cls, execution: Execution) -> Self:
        """The executor of these settings."""
        return cls(execution.device, execution.workers, execution.checkpoint_seconds, execution.hang_seconds)

    def run(self, sweep: SweepFolder, packs: Sequence[Pack], watcher: Watcher) -> list[Outcome]:
        """Run every pack; outcomes of its runs in the order they ended.

        On KeyboardInterrupt every worker writes a checkpoint and leaves, then it is raised again.
        """
        waiting = sorted(packs, key=cost)  # the longest is taken first, from the end
        attempts = Attempts()
        outcomes: list[Outcome] = []
        slots = self._slots([spec for pack in packs for spec in pack])
        crew = [self._start(sweep, slot) for slot in slots[: len(waiting)]]
        try:
            for worker in crew:
                self._give(worker, waiting, attempts, watcher)
            while waiting or any(worker.pack for worker in crew):
                self._end_hung(crew)
                try:
                    worker, message = self._events.get(timeout=1.0)
                except queue.Empty:
                    continue
                leaving = message is not None and any(spec.engine.processes > 1 for spec in worker.pack)
                outcomes += self._handle(worker, message, attempts, waiting, sweep, watcher)
                if not worker.pack and waiting and not leaving:  # the end of one that leaves is its next event
                    if worker.process.poll() is not None or message is None:
                        index = crew.index(worker)
                        crew[index] = worker = self._start(sweep, slots[index])
                    self._give(worker, waiting, attempts, watcher)
        finally:
            self._dismiss(crew)
        return outcomes

    def adopts(self, sweep: SweepFolder, packs: Sequence[Pack]) -> list[Pack]:
        """None: workers end with their launcher."""
        return []

    def _end_hung(self, crew: Sequence[_Worker]) -> None:
        """End the workers that say nothing, nor end themselves; their runs are tried again, as after any death."""
        latest = time.monotonic() - self.hang_seconds - _GRACE
        for worker in crew:
            if worker.pack and worker.heard is not None and worker.heard < latest:
                worker.process.kill()

    def _handle(
        self,
        worker: _Worker,
        message: dict[str, Any] | None,
        attempts: Attempts,
        waiting: list[Pack],
        sweep: SweepFolder,
        watcher: Watcher,
    ) -> list[Outcome]:
        """Take in one event; the outcomes of the pack's runs if the event ended it."""
        pack = worker.pack
        if message is not None:
            worker.heard, self._stillborn = time.monotonic(), 0
        if message is not None and message["event"] == "error":
            raise TestbedError(message["message"])
        if not pack:
            return []
        if message is None:  # the worker died
            worker.pack = ()
            worker.process.wait()
            if worker.heard is None:
                attempts.withdrawn(pack)
                self._stillborn += 1
                if self._stillborn == _STILLBORN:
                    raise TestbedError(f"{_STILLBORN} workers in a row died while they started; see {worker.log}")
            if attempts.left(pack):
                waiting.append(pack)
                return []
            reason = f"its worker died {ATTEMPTS} times (exit status {worker.process.returncode}); see {worker.log}"
            unfinished = [spec for spec in pack if sweep.run(spec).state() != "done"]
            for spec in unfinished:
                sweep.run(spec).fail(reason, worker.log.read_text(errors="replace")[-4000:])
            outcomes = [Outcome(spec.run_id, "failed", reason) for spec in unfinished]
        elif message["event"] == "ended":
            worker.pack = ()
            outcomes = [Outcome(**outcome) for outcome in message["outcomes"]]
        else:
            _report(message, pack, attempts, watcher)
            return []
        for outcome in outcomes:
            if outcome.ending != "held":
                watcher.ended(_named(pack, outcome.run_id), outcome)
        return outcomes

    def _give(self, worker: _Worker, waiting: list[Pack], attempts: Attempts, watcher: Watcher) -> None:
        pack = waiting.pop()
        attempts.started(pack)
        worker.pack = pack
        assert worker.process.stdin is not None
        try:
            worker.process.stdin.write(" ".join(spec.run_id for spec in pack) + "\n")
            worker.process.stdin.flush()
        except BrokenPipeError:
            return  # it died; its reader says so next
        for spec in pack:
            watcher.started(spec)

    def _slots(self, specs: Sequence[RunSpec]) -> list[dict[str, str]]:
        """The environment of each worker: one thread on a core, or one GPU, in turn where there are fewer of them.

        A worker whose runs take several processes has as many cores or GPUs.
        """
        device, taken = choose_device(self.device), processes(specs)
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

    def _start(self, sweep: SweepFolder, slot: dict[str, str]) -> _Worker:
        logs = stay_inside(sweep.path, sweep.path / "logs")
        try:
            logs.mkdir(exist_ok=True)
        except OSError as error:
            raise not_writable(logs, error) from error
        device = "cuda" if "CUDA_VISIBLE_DEVICES" in slot else "cpu"
        # a fixed threshold keeps glibc from giving large blocks back and faulting them in again at every step
        memory = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
        log = logs / f"worker-{socket.gethostname()}-{os.getpid()}-{threading.active_count()}.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "testbed.training.executors.worker",
                    str(sweep.path),
                    device,
                    str(self.checkpoint_seconds),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **memory, "TOKENIZERS_PARALLELISM": "false", **slot},
            )
        worker = _Worker(process, log)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            self._events.put((worker, json.loads(line)))
        self._events.put((worker, None))

    def _dismiss(self, crew: list[_Worker]) -> None:
        """Close every worker's input, ask those still at work to stop, and wait for their checkpoints."""
        for worker in crew:
            assert worker.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                worker.process.stdin.close()
            if worker.pack and worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        for worker in crew:
            try:
                worker.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def _report(message: dict[str, Any], pack: Pack, attempts: Attempts, watcher: Watcher) -> None:
    if message["event"] == "ready":
        return
    spec = _named(pack, message["run"])
    if message["event"] == "progress":
        attempts.reached(pack, message["steps"])
        watcher.progress(spec, message["steps"])
    else:
        watcher.evaluated(spec, Eval.model_validate(message["eval"]))


def _named(pack: Pack, run_id: str) -> RunSpec:
    return next(spec for spec in pack if spec.run_id == run_id)


def default_workers(device: torch.device, specs: Sequence[RunSpec] = ()) -> int:
    """One worker a core that this process may use, or a GPU; several a GPU for small runs, where they can share it.

    Without NVIDIA's multi-process service the processes of a GPU take turns, and several are no faster than one.
    """
    if device.type == "cuda":
        small = bool(specs) and max(s.batch_tokens * s.counts.flops_per_token for s in specs) < _FILLING
        return torch.cuda.device_count() * (_SHARING if small and _shares_gpus() else 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shares_gpus() -> bool:
    """Whether the multi-process service is on: its daemon's pipe is where NVIDIA's variable says, or in its usual place."""
    usual = Path(tempfile.gettempdir(), "nvidia-mps")
    return Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", usual), "control").exists()
