"""The worker processes of one launch: started, given packs, listened to, replaced when they die, dismissed at the end."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed.errors import TestbedError
from testbed.files import not_writable, stay_inside
from testbed.records import RunSpec
from testbed.training.executors.executor import ATTEMPTS, Attempts, Watcher, fail_pack
from testbed.training.executors.training_run import Outcome
from testbed.training.executors.worker_messages import (
    LossLogged,
    Message,
    PackEnded,
    Ready,
    StepsDone,
    WorkerFailed,
    decode,
)
from testbed.training.store import SweepFolder
from testbed.training.sweep import Pack, cost

_PATIENCE = 60.0  # seconds that a worker may take to write its checkpoint
_STILLBORN = 10  # workers in a row that die before they say anything: then it is not chance
_GRACE = 5.0  # seconds that a worker that hangs has to end itself, which leaves its stacks in the log

Inbox = queue.Queue[tuple["WorkerProcess", Message | None]]


class WorkerProcess:
    """One worker as its launcher sees it; its messages arrive in `inbox`, and None once it has ended."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, inbox: Inbox) -> None:
        self.log = log
        self.pack: Pack = ()
        self.heard: float | None = None  # when it last said something; None until it is ready
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **environment},
            )
        threading.Thread(target=self._listen, args=(inbox,), daemon=True).start()

    def _listen(self, inbox: Inbox) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            inbox.put((self, decode(line)))
        inbox.put((self, None))

    def run(self, run_id: str) -> RunSpec:
        """The run of its pack with this id."""
        return next(spec for spec in self.pack if spec.run_id == run_id)

    def take(self, pack: Pack) -> bool:
        """Give it a pack; False where it has died, which its inbox says next."""
        self.pack = pack
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(" ".join(spec.run_id for spec in pack) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def stop(self) -> None:
        """Close its input, and have it write a checkpoint and leave if it is training."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        if self.pack and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait until it has ended; kill it after so many seconds."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class WorkerPool:
    """Trains packs on one worker for each of `slots`, which are what its environment has to hold."""

    def __init__(self, sweep: SweepFolder, watcher: Watcher, device: str, slots: Sequence[Mapping[str, str]]) -> None:
        self._sweep, self._watcher, self._slots = sweep, watcher, slots
        self._command = [sys.executable, "-m", "testbed.training.executors.worker", str(sweep.path), device]
        self._inbox: Inbox = queue.Queue()
        self._crew: list[WorkerProcess] = []
        self._waiting: list[Pack] = []  # the last is taken first
        self._attempts = Attempts()
        self._stillborn = 0
        self._outcomes: list[Outcome] = []

    def train(self, packs: Sequence[Pack]) -> list[Outcome]:
        """Train every pack, the longest first; the outcomes of their runs in the order they ended."""
        self._waiting = sorted(packs, key=cost)
        try:
            for slot in range(min(len(self._slots), len(packs))):
                self._crew.append(self._start(slot))
            for worker in self._crew:
                self._give(worker)
            while self._waiting or any(worker.pack for worker in self._crew):
                self._kill_hung()
                try:
                    worker, message = self._inbox.get(timeout=1.0)
                except queue.Empty:
                    continue
                self._handle(worker, message)
        finally:
            for worker in self._crew:
                worker.stop()
            for worker in self._crew:
                worker.wait(_PATIENCE)
        return self._outcomes

    def _start(self, slot: int) -> WorkerProcess:
        logs = stay_inside(self._sweep.path, self._sweep.path / "logs")
        try:
            logs.mkdir(exist_ok=True)
        except OSError as error:
            raise not_writable(logs, error) from error
        # a fixed threshold keeps glibc from giving large blocks back and faulting them in again at every step
        memory = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
        environment = {**memory, "TOKENIZERS_PARALLELISM": "false", **self._slots[slot]}
        log = logs / f"worker-{socket.gethostname()}-{os.getpid()}-{slot + 1}.log"
        return WorkerProcess(self._command, environment, log, self._inbox)

    def _give(self, worker: WorkerProcess) -> None:
        pack = self._waiting.pop()
        self._attempts.started(pack)
        if worker.take(pack):
            for spec in pack:
                self._watcher.started(spec)

    def _kill_hung(self) -> None:
        """Kill the workers that say nothing and do not end themselves; their packs are tried again, as after any death."""
        latest = time.monotonic() - self._sweep.config.execution.hang_seconds - _GRACE
        for worker in self._crew:
            if worker.pack and worker.heard is not None and worker.heard < latest:
                worker.process.kill()

    def _handle(self, worker: WorkerProcess, message: Message | None) -> None:
        if message is None:
            self._ended(worker)
            return
        worker.heard, self._stillborn = time.monotonic(), 0
        match message:
            case Ready():
                pass
            case StepsDone(run_id, steps):
                self._attempts.reached(worker.pack, steps)
                self._watcher.progress(worker.run(run_id), steps)
            case LossLogged(run_id, evaluation):
                self._watcher.evaluated(worker.run(run_id), evaluation)
            case PackEnded(outcomes):
                self._pack_ended(worker, outcomes)
            case WorkerFailed(reason):
                raise TestbedError(reason)

    def _pack_ended(self, worker: WorkerProcess, outcomes: Sequence[Outcome]) -> None:
        """Keep the outcomes, and give the worker the next pack unless it leaves, as after a run of several processes."""
        self._keep(worker.pack, outcomes)
        leaves = any(spec.engine.processes > 1 for spec in worker.pack) or worker.process.poll() is not None
        worker.pack = ()
        if self._waiting and not leaves:
            self._give(worker)

    def _ended(self, worker: WorkerProcess) -> None:
        """A worker has left or died: try its pack again, and start another worker in its place if packs wait."""
        worker.process.wait()
        if worker.pack:
            self._died(worker, worker.pack)
        worker.pack = ()
        if self._waiting:
            slot = self._crew.index(worker)
            self._crew[slot] = self._start(slot)
            self._give(self._crew[slot])

    def _died(self, worker: WorkerProcess, pack: Pack) -> None:
        """Have the pack of a dead worker wait again, or fail its runs after ATTEMPTS deaths at one place."""
        if worker.heard is None:
            self._attempts.withdrawn(pack)
            self._stillborn += 1
            if self._stillborn == _STILLBORN:
                raise TestbedError(f"{_STILLBORN} workers in a row died while they started; see {worker.log}")
        if self._attempts.left(pack):
            self._waiting.append(pack)
            return
        reason = f"its worker died {ATTEMPTS} times (exit status {worker.process.returncode}); see {worker.log}"
        self._keep(pack, fail_pack(self._sweep, pack, reason, worker.log.read_text(errors="replace")))

    def _keep(self, pack: Pack, outcomes: Sequence[Outcome]) -> None:
        self._outcomes += outcomes
        specs = {spec.run_id: spec for spec in pack}
        for outcome in outcomes:
            if outcome.ending != "held":
                self._watcher.ended(specs[outcome.run_id], outcome)
