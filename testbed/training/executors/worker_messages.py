"""What a worker says to its launcher: one JSON object a line, encoded and decoded here and nowhere else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from testbed.records import Eval, as_json
from testbed.training.executors.training_run import Outcome


@dataclass(frozen=True)
class Ready:
    """The worker has opened the sweep and takes packs."""


@dataclass(frozen=True)
class StepsDone:
    """The run stands at optimiser step `steps`, of spec.steps."""

    run_id: str
    steps: int


@dataclass(frozen=True)
class LossLogged:
    """The run has logged a loss."""

    run_id: str
    evaluation: Eval


@dataclass(frozen=True)
class PackEnded:
    """The worker is done with its pack: how each of its runs ended."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class WorkerFailed:
    """The worker cannot go on, with any pack: the user has to read `reason`."""

    reason: str


Message = Ready | StepsDone | LossLogged | PackEnded | WorkerFailed


def encode(message: Message) -> str:
    """The message as one line of JSON, without the line's end."""
    match message:
        case Ready():
            return json.dumps({"event": "ready"})
        case StepsDone(run_id, steps):
            return json.dumps({"event": "progress", "run": run_id, "steps": steps})
        case LossLogged(run_id, evaluation):
            return json.dumps({"event": "eval", "run": run_id, "eval": as_json(evaluation)})
        case PackEnded(outcomes):
            return json.dumps({"event": "ended", "outcomes": [asdict(outcome) for outcome in outcomes]})
        case WorkerFailed(reason):
            return json.dumps({"event": "error", "message": reason})


def decode(line: str) -> Message:
    """The message that `encode` made this line of."""
    match json.loads(line):
        case {"event": "ready"}:
            return Ready()
        case {"event": "progress", "run": run_id, "steps": steps}:
            return StepsDone(run_id, steps)
        case {"event": "eval", "run": run_id, "eval": evaluation}:
            return LossLogged(run_id, Eval.model_validate(evaluation))
        case {"event": "ended", "outcomes": outcomes}:
            return PackEnded(tuple(Outcome(**outcome) for outcome in outcomes))
        case {"event": "error", "message": reason}:
            return WorkerFailed(reason)
    raise ValueError(f"not a worker's message: {line[:200]!r}")
