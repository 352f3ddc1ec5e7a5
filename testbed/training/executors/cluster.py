"""Packs trained by a cluster's scheduler: what the slurm and ray executors share.

Each pack is one task of the scheduler, and a task is the local executor on that pack alone, wherever
it lands (`train_pack`). Launcher and tasks share nothing but the sweep's folder: what a task is told are
plain strings, what it has done so far is read from the runs' evaluations and sessions, and a task that
is tried again goes on from the checkpoint that lies there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from testbed.config import Execution
from testbed.errors import TestbedError
from testbed.records import Eval, RunSpec
from testbed.training.executors.engines import processes
from testbed.training.executors.executor import ATTEMPTS, LOG_TAIL, Attempts, Watcher
from testbed.training.executors.local import LocalExecutor
from testbed.training.executors.training_run import Outcome
from testbed.training.store import SweepFolder
from testbed.training.store.session import last_session
from testbed.training.sweep import Pack
from testbed.training.train import choose_device

Answer = dict[str, Any]  # {"outcomes": [...]} or {"error": message}: what a task says at its end


@dataclass(frozen=True)
class Ended:
    """A task that is over: its answer, or None where it died, with what is known of that and its log."""

    pack: Pack
    answer: Answer | None
    reason: str = ""
    log: str = ""


class Tasks(Protocol):
    """One task a pack at some scheduler."""

    def begin(self, packs: Sequence[Pack]) -> list[Pack]:
        """Have the packs trained; returns those that another launcher looks after, and that are left to it."""
        ...

    def again(self, pack: Pack) -> None:
        """Have a pack trained whose task died."""
        ...

    def wait(self) -> list[Ended]:
        """The tasks that have ended since the last call, some seconds after it or as soon as there are any."""
        ...

    def stop(self) -> None:
        """Have every task that is left write its checkpoint and leave; returns when they have."""
        ...


def task_arguments(sweep: SweepFolder, pack: Pack, device: str, execution: Execution) -> tuple[str, ...]:
    """What `train_pack` is told: plain strings."""
    run_ids = " ".join(spec.run_id for spec in pack)
    return str(sweep.path.absolute()), run_ids, device, str(execution.checkpoint_seconds), str(execution.hang_seconds)


def train_pack(folder: str, run_ids: str, device: str, checkpoint_seconds: str, hang_seconds: str) -> Answer:
    """A task: train the pack of these runs on the cores or GPUs that the scheduler gave to this process.

    On KeyboardInterrupt a checkpoint is written, then it is raised again.
    """
    try:
        sweep = SweepFolder.open(Path(folder))
        pack = tuple(sweep.find(run_id).spec for run_id in run_ids.split())
        executor = LocalExecutor(device, processes(pack), float(checkpoint_seconds), float(hang_seconds))
        return {"outcomes": [asdict(outcome) for outcome in executor.run(sweep, [pack], _Nobody())]}
    except TestbedError as error:
        return {"error": str(error)}


def device_type(execution: Execution) -> str:
    """The kind of device that tasks ask for: the one named, which the launcher's machine need not have."""
    return choose_device("auto").type if execution.device == "auto" else execution.device


def attend(tasks: Tasks, sweep: SweepFolder, packs: Sequence[Pack], watcher: Watcher) -> list[Outcome]:
    """Have the packs trained and tell the watcher of it; see executor.Executor.run."""
    attempts = Attempts()
    onlooker = _Onlooker(sweep, attempts, watcher)
    outcomes: list[Outcome] = []
    try:
        held = tasks.begin(packs)
        outcomes += [
            Outcome(spec.run_id, "held", "another launcher's task trains it") for pack in held for spec in pack
        ]
        at_work = {pack[0].run_id: pack for pack in packs if pack not in held}
        for pack in at_work.values():
            attempts.started(pack)
        while at_work:
            over = tasks.wait()
            for pack in at_work.values():
                onlooker.look(pack)
            for task in over:
                found = _outcomes(sweep, task, attempts)
                if not found:
                    attempts.started(task.pack)
                    tasks.again(task.pack)
                    continue
                outcomes += found
                del at_work[task.pack[0].run_id]
                onlooker.ended(task.pack, found)
    finally:
        tasks.stop()
    return outcomes


def _outcomes(sweep: SweepFolder, task: Ended, attempts: Attempts) -> list[Outcome]:
    """How the runs of an ended task ended; nothing where it died and is to be tried again."""
    answer = task.answer or {}
    if "error" in answer:
        raise TestbedError(answer["error"])
    if "outcomes" in answer:
        return [Outcome(**outcome) for outcome in answer["outcomes"]]
    folders = [sweep.run(spec) for spec in task.pack]
    if not all(folder.ended() for folder in folders):
        if attempts.left(task.pack):
            return []
        reason = f"its task died {ATTEMPTS} times ({task.reason})"
        for folder in folders:
            if folder.done() is None:
                folder.fail(reason, task.log[-LOG_TAIL:])
    return [
        Outcome(folder.spec.run_id, "failed" if failure else "done", failure.reason if failure else "")
        for folder in folders
        for failure in (folder.failure(),)
    ]


class _Standing(NamedTuple):
    """How far a run has come, as its folder has it."""

    sessions: int
    steps: int
    evaluations: int


class _Onlooker:
    """Tells a watcher what the folders say of runs that are trained elsewhere."""

    def __init__(self, sweep: SweepFolder, attempts: Attempts, watcher: Watcher) -> None:
        self._sweep, self._attempts, self._watcher = sweep, attempts, watcher
        self._seen: dict[str, _Standing] = {}
        self._begun: set[str] = set()

    def look(self, pack: Pack) -> None:
        """Tell of what is new since the last look; at the first one, of nothing."""
        for spec in pack:
            folder = self._sweep.run(spec)
            number, session = last_session(folder.path)
            reached, evals = session.reached if session else 0, folder.evals()
            at_work = session is not None and not session.released
            now = _Standing(number, reached, len(evals))
            before = self._seen.get(spec.run_id, now._replace(sessions=number - at_work))
            self._seen[spec.run_id] = now
            if now == before:
                continue
            if spec.run_id not in self._begun:
                self._begun.add(spec.run_id)
                self._watcher.started(spec)
            if now.steps > before.steps:
                self._attempts.reached(pack, reached)
                self._watcher.progress(spec, reached)
            for evaluation in evals[before.evaluations :]:
                self._watcher.evaluated(spec, evaluation)

    def ended(self, pack: Pack, outcomes: Sequence[Outcome]) -> None:
        """Tell of the last losses and of the end."""
        self.look(pack)
        named = {spec.run_id: spec for spec in pack}
        for outcome in outcomes:
            if outcome.ending != "held":
                self._watcher.ended(named[outcome.run_id], outcome)


class _Nobody:
    """Watches a task: the launcher reads the folder."""

    def started(self, spec: RunSpec) -> None:
        """Nothing."""

    def progress(self, spec: RunSpec, steps: int) -> None:
        """Nothing."""

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """Nothing."""

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """Nothing."""
