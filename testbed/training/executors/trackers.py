"""TensorBoard and Weights & Biases, through accelerate: each run of a sweep is a run in the tracker.

The launcher logs to them, which receives every event, so they work with any executor. The record of a run
stays its evals.jsonl: a tracker that fails is dropped with a warning, and the sweep continues.
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
    """Yields a watcher that also logs to the trackers of the sweep's configuration; `watcher` itself if it has none.

    Raises:
        ConfigError: A tracker is not installed.
    """
    settings = sweep.config.tracker
    if settings is None:
        yield watcher
        return
    for kind in settings.kind:
        require(kind, "trackers", f'tracker.kind: "{kind}"')
    from accelerate import PartialState

    PartialState(cpu=True)  # accelerate's trackers ask it for the main process; this takes no GPU
    tracker_watcher = TrackerWatcher(watcher, {kind: _opener(kind, settings, sweep) for kind in settings.kind})
    try:
        yield tracker_watcher
    finally:
        tracker_watcher.close()


class TrackerWatcher:
    """A watcher that passes every event on to another one, and logs losses to trackers.

    `openers` holds, by kind of tracker, the function that opens one for a run.
    """

    def __init__(self, watcher: Watcher, openers: dict[str, Callable[[RunSpec], Opened]]) -> None:
        self._watcher, self._openers = watcher, openers
        self._open: dict[tuple[str, str], Opened] = {}  # by kind and run

    def started(self, spec: RunSpec) -> None:
        """Pass it on; a tracker is opened at the run's first loss."""
        self._watcher.started(spec)

    def progress(self, spec: RunSpec, steps: int) -> None:
        """Pass it on; trackers get losses only."""
        self._watcher.progress(spec, steps)

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """Log the losses at their tokens, named by phase: the tokens of a cooldown overlap those of the later trunk."""
        self._watcher.evaluated(spec, evaluation)
        values = {name: getattr(evaluation, name) for name in _LOGGED}
        named = {f"{name}/{evaluation.phase}": value for name, value in values.items() if value is not None}
        for kind in tuple(self._openers):
            with self._dropped_if_it_fails(kind):
                if (kind, spec.run_id) not in self._open:
                    self._open[kind, spec.run_id] = self._openers[kind](spec)
                _log_values(kind, self._open[kind, spec.run_id], named, evaluation.tokens)

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """Pass it on, and close the run's trackers."""
        self._watcher.ended(spec, outcome)
        for kind in tuple(self._openers):
            self._finish(kind, spec.run_id)

    def close(self) -> None:
        """Close the trackers of interrupted runs."""
        for kind, run_id in tuple(self._open):
            self._finish(kind, run_id)

    def _finish(self, kind: str, run_id: str) -> None:
        tracker = self._open.pop((kind, run_id), None)
        if tracker is not None:
            with self._dropped_if_it_fails(kind):
                tracker.finish()

    @contextmanager
    def _dropped_if_it_fails(self, kind: str) -> Iterator[None]:
        """Drop this kind of tracker, with a warning, if the block raises anything; the sweep continues."""
        try:
            yield
        except Exception as error:
            if self._openers.pop(kind, None) is None:
                return  # it was dropped before
            _log.warning("%s failed and is no longer logged to (%s: %s)", kind, type(error).__name__, error)
            for key in [key for key in self._open if key[0] == kind]:
                with suppress(Exception):
                    self._open.pop(key).finish()


def _opener(kind: str, settings: Tracker, sweep: SweepFolder) -> Callable[[RunSpec], Opened]:
    """The function that opens a tracker of this kind for a run."""
    folder = sweep.path / settings.dir / kind
    if kind == "tensorboard":
        return lambda spec: _tensorboard(spec, folder)
    return lambda spec: _wandb(spec, folder, settings, sweep)


def _tensorboard(spec: RunSpec, folder: Path) -> Opened:
    from accelerate.tracking import TensorBoardTracker

    tracker = TensorBoardTracker(spec.run_id, folder)
    tracker.start()
    plain = {name: value for name, value in _flat(spec.model_dump(mode="json")).items() if value is not None}
    tracker.tracker.add_hparams(plain, {}, run_name=".")  # its own method would make two runs of each
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


def _log_values(kind: str, tracker: Opened, values: dict[str, float], tokens: int) -> None:
    if kind == "tensorboard":
        tracker.log(values, step=tokens)
    else:
        tracker.log(values | {"tokens": tokens})  # its own steps cannot go back


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten to dotted keys, with lists as text, as a table of hyperparameters needs."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value) if isinstance(value, list) else value
    return flat
