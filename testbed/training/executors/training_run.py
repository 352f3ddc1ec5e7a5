"""Running one pack in its folders: what every executor does, whatever started the process."""

from __future__ import annotations

import logging
import platform
import subprocess
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from testbed.errors import DiskError, RunFailed, SealError, TestbedError
from testbed.records import Eval, Provenance, RunSpec
from testbed.training.data import TokenSource
from testbed.training.executors.budget_guard import BudgetGuard
from testbed.training.executors.heartbeat import Heartbeat
from testbed.training.store import Held, RunFolder, Superseded, SweepFolder, now
from testbed.training.train import Diverged, Finished, Interruptions, Logged, Paused, Progress, Warned, train
from testbed.version import versions

_log = logging.getLogger("testbed")

Ending = Literal["done", "failed", "paused", "held"]


@dataclass(frozen=True)
class Outcome:
    """How one run ended here; `reason` says why it failed, or who trains it where it is held by another process."""

    run_id: str
    ending: Ending
    reason: str = ""


def run_pack(
    sweep: SweepFolder,
    specs: tuple[RunSpec, ...],
    source: TokenSource,
    device: torch.device,
    interruptions: Interruptions,
    report: Callable[[RunSpec, Eval | Progress], None],
) -> list[Outcome]:
    """Train one pack of the sweep to its end, from its last checkpoint if it has one; never raises for a run's own fault.

    Runs of the pack that are done keep their records as they are. A pack that another process owns, or
    takes over meanwhile, is held. DiskError where the folder can no longer be written or read: nothing is
    marked, and the runs go on from their checkpoints once the disk is back.
    """
    if not SweepFolder.exists(sweep.path):
        raise DiskError(
            f"{sweep.path}: the sweep's folder has vanished while it was trained; make its disk available again and repeat "
            "the command"
        )
    execution = sweep.config.execution
    folders = [sweep.run(spec) for spec in specs]
    if all(folder.done() for folder in folders):
        return [Outcome(spec.run_id, "done") for spec in specs]
    budget = BudgetGuard(sweep)
    budget.refresh()
    if budget.exhausted:
        return [Outcome(spec.run_id, "paused") for spec in specs]
    try:
        with ExitStack() as stack:
            claims = [stack.enter_context(folder.claimed(execution.lease_seconds)) for folder in folders]
            heartbeat = Heartbeat(claims, execution.lease_seconds, execution.hang_seconds, budget)
            stack.enter_context(heartbeat.running())
            return _train_owned(sweep, folders, source, device, interruptions, report, heartbeat)
    except (Held, Superseded) as reason:
        return [Outcome(spec.run_id, "held", str(reason)) for spec in specs]
    except OSError as error:
        raise DiskError(
            f"{error.filename or sweep.path}: {error.strerror or error}; make the disk available again and repeat the command"
        ) from error


def _train_owned(
    sweep: SweepFolder,
    folders: Sequence[RunFolder],
    source: TokenSource,
    device: torch.device,
    interruptions: Interruptions,
    report: Callable[[RunSpec, Eval | Progress], None],
    heartbeat: Heartbeat,
) -> list[Outcome]:
    """Train the pack in folders that are this process's own."""
    specs = [folder.spec for folder in folders]
    open_runs = [folder for folder in folders if folder.done() is None]
    if not open_runs:
        return [Outcome(spec.run_id, "done") for spec in specs]
    try:
        for spec in specs:
            _check_start(sweep, spec, source)
        for folder in open_runs:
            folder.begin(_provenance(folder.spec, device))
        watched = replace(
            interruptions, stop=lambda: interruptions.stop() or heartbeat.budget.exhausted, check=heartbeat.check
        )
        failures = _train_logged(folders, source, device, watched, report, heartbeat)
    except Paused:
        return [Outcome(spec.run_id, "paused") for spec in specs]
    except (DiskError, Superseded, OSError):
        raise
    except Exception as error:  # whatever it was, the sweep goes on and the reason is kept
        reason = str(error) if isinstance(error, TestbedError) else f"{type(error).__name__}: {error}"
        for folder in open_runs:
            folder.fail(reason, traceback.format_exc())
        failures = {folder.spec.run_id: reason for folder in open_runs}
    return [
        Outcome(spec.run_id, "failed" if spec.run_id in failures else "done", failures.get(spec.run_id, ""))
        for spec in specs
    ]


def _check_start(sweep: SweepFolder, spec: RunSpec, source: TokenSource) -> None:
    if spec.role == "target" and spec.run_id not in sweep.forecast().target.runs:
        raise SealError(
            f"{spec.run_id}: the sealed forecast is about other runs; a target starts only after its forecast"
        )
    if source.facts.fingerprint != spec.data.fingerprint:
        raise RunFailed(
            f"{spec.data.source}: the tokens are not those of the plan (fingerprint {source.facts.fingerprint[:12]}, planned "
            f"{spec.data.fingerprint[:12]}); restore the data, or start another sweep"
        )


def _train_logged(
    folders: Sequence[RunFolder],
    source: TokenSource,
    device: torch.device,
    interruptions: Interruptions,
    report: Callable[[RunSpec, Eval | Progress], None],
    heartbeat: Heartbeat,
) -> dict[str, str]:
    """Train the pack and keep what it yields; the reasons of the runs that diverged, by run id."""
    specs = tuple(folder.spec for folder in folders)
    recorded = tuple(frozenset(e.key for e in folder.evals()) for folder in folders)
    failures: dict[str, str] = {}
    paths = tuple(folder.checkpoints for folder in folders)
    for event in train(specs, source, paths, device, recorded, interruptions):
        heartbeat.beat(event.steps if isinstance(event, (Progress, Finished)) else None)
        if isinstance(event, Logged):
            folders[event.run].log(event.evaluation)
            report(specs[event.run], event.evaluation)
        elif isinstance(event, Diverged):
            failures[specs[event.run].run_id] = event.reason
            if folders[event.run].done() is None:
                folders[event.run].fail(event.reason, "", diverged=True)
        elif isinstance(event, Warned):
            _log.warning("%s", event.message)
            for folder in folders:
                if folder.done() is None:
                    folder.notice(event.message)
        elif isinstance(event, Progress):
            for spec in specs:
                report(spec, event)
        else:
            _finish(folders, failures, event)
    return failures


def _finish(folders: Sequence[RunFolder], failures: dict[str, str], what: Finished) -> None:
    for folder in reversed(folders):  # the first holds the pack's checkpoint, so it is the last to go
        if folder.spec.run_id not in failures and folder.done() is None:
            folder.finish(what.steps, what.tokens, what.seconds)


def _provenance(spec: RunSpec, device: torch.device) -> Provenance:
    return Provenance(
        started=now(),
        versions=versions("torch", "numpy", "transformers"),
        python=platform.python_version(),
        platform=platform.platform(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        deterministic=spec.deterministic,
        commit=_commit(),
        data_fingerprint=spec.data.fingerprint,
    )


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


@lru_cache
def _commit() -> str | None:
    """The commit of the package's checkout, with "+changed" if files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10)
        if tracked.returncode != 0:
            return None
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", str(here)], capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + "+changed" * (changed.returncode != 0)
