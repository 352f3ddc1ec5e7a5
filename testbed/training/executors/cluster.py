"""Training packs on a cluster: what the slurm and ray executors share.

Each pack is one task of the cluster's scheduler, and a task runs the local executor on that pack alone,
on whatever node it is placed (`train_pack`). Launcher and tasks share nothing but the sweep's folder: a
task's arguments are plain strings, its progress is read from the runs' evaluations and sessions, and a task
that is started again resumes from the checkpoint in the folder.
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
from testbed.training.executors.executor import ATTEMPTS, Attempts, Watcher, fail_pack
from testbed.training.executors.local import LocalExecutor
from testbed.training.executors.training_run import Outcome
from testbed.training.store import SweepFolder
from testbed.training.store.session import last_session
from testbed.training.sweep import Pack
from testbed.training.train import choose_device

Answer = dict[str, Any]  # a task's result: {"outcomes": [...]} or {"error": message}


@dataclass(frozen=True)
class EndedTask:
    """A task that is over: its answer, or None where it died; then `reason` says what is known, with the end of its log."""

    pack: Pack
    answer: Answer | None
    reason: str = ""
    log: str = ""


class ClusterTasks(Protocol):
    """The tasks of one launch at a cluster's scheduler, one for each pack."""

    def submit(self, packs: Sequence[Pack]) -> list[Pack]:
        """Submit a task for each pack; returns the packs that another launcher's tasks train, which are left to it."""
        ...

    def resubmit(self, pack: Pack) -> None:
        """Submit another task for a pack whose task died."""
        ...

    def wait(self) -> list[EndedTask]:
        """Wait up to some seconds; returns the tasks that have ended since the last call."""
        ...

    def stop(self) -> None:
        """Ask every remaining task to write its checkpoint and leave; returns when they have."""
        ...


def task_arguments(sweep: SweepFolder, pack: Pack, device: str) -> tuple[str, str, str]:
    """The arguments of `train_pack` for this pack: plain strings, which every scheduler can pass."""
    run_ids = " ".join(spec.run_id for spec in pack)
    return str(sweep.path.absolute()), run_ids, device


def train_pack(folder: str, run_ids: str, device: str) -> Answer:
    """The body of a task: train the pack of these runs on the cores or GPUs that the scheduler gave this process.

    On KeyboardInterrupt a checkpoint is written, then the interrupt is raised again.
    """
    try:
        sweep = SweepFolder.open(Path(folder))
        pack = tuple(sweep.find(run_id).spec for run_id in run_ids.split())
        executor = LocalExecutor(device, processes(pack))
        return {"outcomes": [asdict(outcome) for outcome in executor.run(sweep, [pack], _SilentWatcher())]}
    except TestbedError as error:
        return {"error": str(error)}


def device_type(execution: Execution) -> str:
    """The device type that tasks ask for: the configured one, which the launcher's machine need not have."""
    return choose_device("auto").type if execution.device == "auto" else execution.device


def run_tasks(tasks: ClusterTasks, sweep: SweepFolder, packs: Sequence[Pack], watcher: Watcher) -> list[Outcome]:
    """Train the packs as tasks, and report their progress to the watcher; see executor.Executor.run."""
    attempts = Attempts()
    progress = _FolderProgress(sweep, attempts, watcher)
    outcomes: list[Outcome] = []
    try:
        held = tasks.submit(packs)
        outcomes += [
            Outcome(spec.run_id, "held", "another launcher's task trains it") for pack in held for spec in pack
        ]
        at_work = {pack[0].run_id: pack for pack in packs if pack not in held}
        for pack in at_work.values():
            attempts.started(pack)
        while at_work:
            ended = tasks.wait()
            for pack in at_work.values():
                progress.report(pack)
            for task in ended:
                found = _outcomes(sweep, task, attempts)
                if not found:
                    attempts.started(task.pack)
                    tasks.resubmit(task.pack)
                    continue
                outcomes += found
                del at_work[task.pack[0].run_id]
                progress.ended(task.pack, found)
    finally:
        tasks.stop()
    return outcomes


def _outcomes(sweep: SweepFolder, task: EndedTask, attempts: Attempts) -> list[Outcome]:
    """How the runs of an ended task ended; empty where it died and its pack is to be tried again."""
    answer = task.answer or {}
    if "error" in answer:
        raise TestbedError(answer["error"])
    if "outcomes" in answer:
        return [Outcome(**outcome) for outcome in answer["outcomes"]]
    folders = [sweep.run(spec) for spec in task.pack]
    if not all(folder.ended() for folder in folders):
        if attempts.left(task.pack):
            return []
        fail_pack(sweep, task.pack, f"its task died {ATTEMPTS} times ({task.reason})", task.log)
    return [
        Outcome(folder.spec.run_id, "failed" if failure else "done", failure.reason if failure else "")
        for folder in folders
        for failure in (folder.failure(),)
    ]


class _RunProgress(NamedTuple):
    """The run's progress, read from its folder."""

    sessions: int
    steps: int
    evaluations: int


class _FolderProgress:
    """Reports the progress of runs that other machines train to a watcher, by reading their folders."""

    def __init__(self, sweep: SweepFolder, attempts: Attempts, watcher: Watcher) -> None:
        self._sweep, self._attempts, self._watcher = sweep, attempts, watcher
        self._seen: dict[str, _RunProgress] = {}
        self._begun: set[str] = set()

    def report(self, pack: Pack) -> None:
        """Report what is new since the last call for this pack; the first call reports nothing."""
        for spec in pack:
            folder = self._sweep.run(spec)
            number, session = last_session(folder.path)
            reached, evals = session.reached if session else 0, folder.evals()
            at_work = session is not None and not session.released
            now = _RunProgress(number, reached, len(evals))
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
        """Report the last losses and the end of the pack's runs."""
        self.report(pack)
        named = {spec.run_id: spec for spec in pack}
        for outcome in outcomes:
            if outcome.ending != "held":
                self._watcher.ended(named[outcome.run_id], outcome)


class _SilentWatcher:
    """The watcher inside a task, which shows nothing: the launcher reads the folder."""

    def started(self, spec: RunSpec) -> None: ...
    def progress(self, spec: RunSpec, steps: int) -> None: ...
    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None: ...
    def ended(self, spec: RunSpec, outcome: Outcome) -> None: ...
