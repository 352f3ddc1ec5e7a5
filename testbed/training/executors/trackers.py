"""TensorBoard and Weights & Biases beside the record, through accelerate: each run of a sweep is a run of theirs.

They are told by the process that hears of every event, so they work with any executor. The record is each
run's evals.jsonl; a tracker that fails is left out from then on, with a warning, and the sweep goes on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from testbed.config import Tracker
from testbed.records import Eval, RunSpec
from testbed.registry import require
from testbed.training.executors.executor import Watcher
from testbed.training.executors.training_run import Outcome
from testbed.training.store import SweepFolder

_log = logging.getLogger(__name__)
_LOGGED = ("loss", "bpb", "train_loss", "lr")
_PATIENCE = 30.0  # seconds that W&B may take to answer

Opened = Any  # a GeneralTracker of accelerate that was started


@contextmanager
def tracked(watcher: Watcher, sweep: SweepFolder) -> Iterator[Watcher]:
    """What to train under: `watcher`, and the trackers that the sweep's configuration asks for, if any.

    ConfigError where one of them is not installed.
    """
    settings = sweep.config.tracker
    if settings is None:
        yield watcher
        return
    for kind in settings.kind:
        require(kind, "trackers", f'tracker.kind: "{kind}"')
    from accelerate import PartialState

    PartialState(cpu=True)  # accelerate's trackers ask it for the main process; no GPU is taken for that
    told = Told(watcher, {kind: _open(kind, settings, sweep) for kind in settings.kind})
    try:
        yield told
    finally:
        told.close()


class Told:
    """A watcher that tells another one, and the trackers; `makers` open a tracker of a kind for a run."""

    def __init__(self, watcher: Watcher, makers: dict[str, Callable[[RunSpec], Opened]]) -> None:
        self._watcher, self._makers = watcher, makers
        self._open: dict[tuple[str, str], Opened] = {}  # by kind and run

    def started(self, spec: RunSpec) -> None:
        """A worker has taken the run."""
        self._watcher.started(spec)

    def progress(self, spec: RunSpec, steps: int) -> None:
        """The run has done so many optimiser steps of spec.steps."""
        self._watcher.progress(spec, steps)

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """The run has logged a loss: at its tokens, named by its phase, since a cooldown starts again from its trunk."""
        self._watcher.evaluated(spec, evaluation)
        values = {name: getattr(evaluation, name) for name in _LOGGED}
        named = {f"{name}/{evaluation.phase}": value for name, value in values.items() if value is not None}
        for kind in tuple(self._makers):
            with self._unless_it_fails(kind):
                if (kind, spec.run_id) not in self._open:
                    self._open[kind, spec.run_id] = self._makers[kind](spec)
                _tell(kind, self._open[kind, spec.run_id], named, evaluation.tokens)

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """The run has ended here; so do its trackers."""
        self._watcher.ended(spec, outcome)
        for kind in tuple(self._makers):
            self._finish(kind, spec.run_id)

    def close(self) -> None:
        """End what is still open, of runs that were interrupted."""
        for kind, run_id in tuple(self._open):
            self._finish(kind, run_id)

    def _finish(self, kind: str, run_id: str) -> None:
        tracker = self._open.pop((kind, run_id), None)
        if tracker is not None:
            with self._unless_it_fails(kind):
                tracker.finish()

    @contextmanager
    def _unless_it_fails(self, kind: str) -> Iterator[None]:
        """Whatever a tracker raises, the sweep goes on, without it."""
        try:
            yield
        except Exception as error:
            if self._makers.pop(kind, None) is None:
                return  # it has failed before
            _log.warning("%s failed and is left out from here on (%s: %s)", kind, type(error).__name__, error)
            for key in [key for key in self._open if key[0] == kind]:
                with suppress(Exception):
                    self._open.pop(key).finish()


def _open(kind: str, settings: Tracker, sweep: SweepFolder) -> Callable[[RunSpec], Opened]:
    """What opens a tracker for a run."""
    folder = sweep.path / settings.dir / kind
    if kind == "tensorboard":
        return lambda spec: _tensorboard(spec, folder)
    return lambda spec: _wandb(spec, folder, settings, sweep)


def _tensorboard(spec: RunSpec, folder: Path) -> Opened:
    from accelerate.tracking import TensorBoardTracker

    tracker = TensorBoardTracker(spec.run_id, folder)
    tracker.start()
    plain = {name: value for name, value in _flat(spec.model_dump(mode="json")).items() if value is not None}
    tracker.tracker.add_hparams(plain, {}, run_name=".")  # its own way would make two runs of each
    return tracker


def _wandb(spec: RunSpec, folder: Path, settings: Tracker, sweep: SweepFolder) -> Opened:
    import wandb
    from accelerate.tracking import WandBTracker

    offline = settings.offline or os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun")
    if not offline and wandb.api.api_key is None:  # it would ask for one on the terminal, in the middle of a sweep
        raise RuntimeError("no key; give one with wandb login or WANDB_API_KEY, or set tracker.offline = true")
    folder.mkdir(parents=True, exist_ok=True)
    tracker = WandBTracker(
        settings.project or sweep.config.name,
        entity=settings.entity,
        dir=str(folder),
        id=f"{sweep.config.name}-{spec.run_id}",
        name=spec.run_id,
        group=sweep.config.name,
        job_type=spec.role,
        config=spec.model_dump(mode="json") | {"config_hash": sweep.config.hash()},
        resume="allow",
        reinit="create_new",  # runs are trained side by side
        mode="offline" if settings.offline else None,
        settings=wandb.Settings(init_timeout=_PATIENCE, silent=True, console="off"),
    )
    tracker.start()
    tracker.tracker.define_metric("*", step_metric="tokens")
    return tracker


def _tell(kind: str, tracker: Opened, values: dict[str, float], tokens: int) -> None:
    if kind == "tensorboard":
        tracker.log(values, step=tokens)
    else:
        tracker.log(values | {"tokens": tokens})  # its own steps may not go back


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys, lists as texts: what a table of hyperparameters can show."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value) if isinstance(value, list) else value
    return flat
