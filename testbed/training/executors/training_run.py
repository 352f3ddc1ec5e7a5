"""Trains one pack in its folders: what every executor does, whatever started the process."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from testbed.errors import DataError, DiskError, SealError, TestbedError
from testbed.records import Eval, RunSpec
from testbed.training.data import TokenSource
from testbed.training.executors.budget_guard import BudgetGuard
from testbed.training.executors.heartbeat import Heartbeat
from testbed.training.executors.provenance import provenance
from testbed.training.store import Held, RunFolder, Superseded, SweepFolder
from testbed.training.train import Diverged, Finished, Interruptions, Logged, Paused, Progress, Warned, train
from testbed.training.train.events import Event

_log = logging.getLogger("testbed")

Ending = Literal["done", "failed", "paused", "held"]
Report = Callable[[RunSpec, Eval | Progress], None]


@dataclass(frozen=True)
class Outcome:
    """How one run ended here; `reason` says why it failed, or who trains it where another process holds it."""

    run_id: str
    ending: Ending
    reason: str = ""


def run_pack(
    sweep: SweepFolder,
    specs: tuple[RunSpec, ...],
    source: TokenSource,
    device: torch.device,
    interruptions: Interruptions,
    report: Report,
) -> list[Outcome]:
    """Train one pack of the sweep to its end, from its last checkpoint if it has one.

    Runs of the pack that are done keep their records. A pack that another process owns, or takes over
    meanwhile, is "held". A run's own fault fails the run and is not raised.

    Raises:
        DataError: The source's tokens are not those of the plan. Nothing is marked here either.
        DiskError: The folder can no longer be written or read. Nothing is marked: the runs go on from their
            checkpoints once the disk is back.
    """
    sweep.check_present()
    execution = sweep.config.execution
    folders = tuple(sweep.run(spec) for spec in specs)
    if all(folder.done() for folder in folders):
        return [Outcome(spec.run_id, "done") for spec in specs]
    _check_tokens(sweep, specs, source)
    budget = BudgetGuard(sweep)
    budget.refresh()
    if budget.exhausted:
        return [Outcome(spec.run_id, "paused") for spec in specs]
    try:
        with ExitStack() as stack:
            claims = [stack.enter_context(folder.claimed(execution.lease_seconds)) for folder in folders]
            heartbeat = Heartbeat(claims, execution.lease_seconds, execution.hang_seconds, budget)
            stack.enter_context(heartbeat.running())
            return _OwnedPack(sweep, folders, source, device, report, heartbeat).train(interruptions)
    except (Held, Superseded) as reason:
        return [Outcome(spec.run_id, "held", str(reason)) for spec in specs]
    except OSError as error:
        raise DiskError(
            f"{error.filename or sweep.path}: {error.strerror or error}; make the disk available again and repeat the command"
        ) from error


def _check_tokens(sweep: SweepFolder, specs: tuple[RunSpec, ...], source: TokenSource) -> None:
    for spec in specs:
        found, planned = source.facts.fingerprint, spec.data.fingerprint
        if found != planned:
            raise DataError(
                f"{spec.data.source}: the tokens are not those of the plan of {sweep.path} (fingerprint {found[:12]}, planned "
                f"{planned[:12]}); restore the data and repeat the command, or start another sweep (--out)"
            )


@dataclass(frozen=True)
class _OwnedPack:
    """A pack whose folders belong to this process; `failures` are the reasons of the runs that failed here, by run id."""

    sweep: SweepFolder
    folders: tuple[RunFolder, ...]
    source: TokenSource
    device: torch.device
    report: Report
    heartbeat: Heartbeat
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        return tuple(folder.spec for folder in self.folders)

    def unfinished(self) -> list[RunFolder]:
        return [folder for folder in self.folders if folder.done() is None]

    def train(self, interruptions: Interruptions) -> list[Outcome]:
        """Train the runs that are not done and keep what the training yields."""
        unfinished = self.unfinished()
        if not unfinished:
            return [Outcome(spec.run_id, "done") for spec in self.specs]
        watched = replace(
            interruptions,
            stop=lambda: interruptions.stop() or self.heartbeat.budget.exhausted,
            check=self.heartbeat.check,
        )
        try:
            self._begin(unfinished)
            recorded = tuple(frozenset(e.key for e in folder.evals()) for folder in self.folders)
            paths = tuple(folder.checkpoints for folder in self.folders)
            for event in train(self.specs, self.source, paths, self.device, recorded, watched):
                self._record(event)
        except Paused:
            return [Outcome(spec.run_id, "paused") for spec in self.specs]
        except (DiskError, Superseded, OSError):
            raise
        except Exception as error:  # whatever it was, the sweep goes on and the reason is kept
            reason = str(error) if isinstance(error, TestbedError) else f"{type(error).__name__}: {error}"
            for folder in unfinished:
                folder.fail(reason, traceback.format_exc())
            self.failures.update({folder.spec.run_id: reason for folder in unfinished})
        return [
            Outcome(run_id, "failed" if run_id in self.failures else "done", self.failures.get(run_id, ""))
            for run_id in (spec.run_id for spec in self.specs)
        ]

    def _begin(self, unfinished: list[RunFolder]) -> None:
        for spec in self.specs:
            if spec.role == "target" and spec.run_id not in self.sweep.forecast().target.runs:
                raise SealError(
                    f"{spec.run_id}: the sealed forecast is about other runs; a target starts only after its forecast"
                )
        for folder in unfinished:
            folder.begin(provenance(folder.spec, self.device))

    def _record(self, event: Event) -> None:
        """Keep one event of the training in the folders, and report what a progress display shows."""
        self.heartbeat.beat(event.steps if isinstance(event, (Progress, Finished)) else None)
        match event:
            case Logged(run, evaluation):
                self.folders[run].log(evaluation)
                self.report(self.specs[run], evaluation)
            case Progress():
                for spec in self.specs:
                    self.report(spec, event)
            case Diverged(run, reason):
                self.failures[self.specs[run].run_id] = reason
                if self.folders[run].done() is None:
                    self.folders[run].fail(reason, "", diverged=True)
            case Warned(message):
                _log.warning("%s", message)
                for folder in self.unfinished():
                    folder.notice(message)
            case Finished(steps, tokens, seconds):
                for folder in reversed(
                    self.unfinished()
                ):  # the first holds the pack's checkpoint: it is the last to finish
                    if folder.spec.run_id not in self.failures:
                        folder.finish(steps, tokens, seconds)
