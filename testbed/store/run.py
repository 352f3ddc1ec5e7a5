"""One run's folder: its spec, provenance, evaluations, checkpoints, and how it ended."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from testbed.errors import FolderError, RunFailed
from testbed.files import append_line, read_lines, write_json
from testbed.records import Done, Eval, Failed, Provenance, RunSpec, as_json
from testbed.store.lock import hold, is_held

_PATIENCE = 20.0  # seconds that a worker whose launcher was killed may take to write its checkpoint

State = Literal["done", "running", "paused", "failed", "to do"]


class RunFolder:
    """runs/<sweep>/runs/<run_id>; nothing in it is rewritten once the run is done."""

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path, self.spec = path, spec

    @property
    def checkpoints(self) -> Path:
        """Where the trainer keeps its state, and at the end the weights."""
        return self.path

    def state(self) -> State:
        """How the run stands; "running" while some process holds its lock."""
        if (self.path / "done.json").exists():
            return "done"
        if is_held(self.path / "lock"):
            return "running"
        if (self.path / "failed.json").exists():
            return "failed"
        return "paused" if (self.path / "spec.json").exists() else "to do"

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the run's lock; FolderError if another process is training it. Freed when the process ends."""
        message = f"{self.path}: another process is training this run; wait for it or stop it"
        with hold(self.path / "lock", message, patience=_PATIENCE):
            yield

    def begin(self, provenance: Provenance) -> None:
        """Write the spec, and the provenance of this start; an earlier failure is forgotten."""
        self.forget_failure()
        write_json(self.path / "spec.json", as_json(self.spec))
        append_line(self.path / "provenance.jsonl", json.dumps(as_json(provenance)))

    def log(self, evaluation: Eval) -> None:
        """Append one evaluation."""
        append_line(self.path / "evals.jsonl", evaluation.model_dump_json())

    def evals(self) -> list[Eval]:
        """Every evaluation so far, in the order taken."""
        path = self.path / "evals.jsonl"
        found = []
        for number, line in enumerate(read_lines(path), 1):
            try:
                found.append(Eval.model_validate_json(line))
            except ValidationError as error:
                problem = error.errors()[0]
                raise FolderError(
                    f"{path}, line {number}: not an evaluation ({'.'.join(map(str, problem['loc']))}: {problem['msg']}); "
                    "move the run's folder away to train it anew"
                ) from None
        return found

    def provenance(self) -> list[Provenance]:
        """One record for each time the run was started."""
        return [Provenance.model_validate_json(line) for line in read_lines(self.path / "provenance.jsonl")]

    def finish(self, steps: int, tokens: int, seconds: float) -> None:
        """Mark the run done with what it really did, which has to be what was planned; drop its checkpoints."""
        found = {"steps": steps, "tokens": tokens}
        planned = {"steps": self.spec.steps, "tokens": self.spec.tokens}
        found |= {f"horizon {e.horizon}": e.tokens for e in self.evals() if e.phase == "annealed"}
        planned |= {f"horizon {h.tokens}": h.tokens for h in self.spec.horizons}
        if found != planned:
            raise RunFailed(
                f"{self.path}: did {found}, but the plan is {planned}; move the folder away to train it anew"
            )
        flops = tokens * self.spec.counts.flops_per_token
        done = Done(finished=now(), steps=steps, tokens=tokens, flops=flops, seconds=round(seconds, 3))
        write_json(self.path / "done.json", as_json(done))
        for name in ("trunk", "branch"):
            (self.path / f"{name}.safetensors").unlink(missing_ok=True)

    def fail(self, reason: str, details: str, diverged: bool = False) -> None:
        """Mark the run failed, with the reason."""
        failed = Failed(finished=now(), reason=reason, details=details, diverged=diverged)
        write_json(self.path / "failed.json", as_json(failed))

    def failure(self) -> Failed | None:
        """Why the run failed, if it did."""
        path = self.path / "failed.json"
        return Failed.model_validate_json(path.read_text()) if path.exists() else None

    def done(self) -> Done | None:
        """What the run did, if it is done."""
        path = self.path / "done.json"
        return Done.model_validate_json(path.read_text()) if path.exists() else None

    def forget_failure(self) -> None:
        """Allow the run to be tried again, from its last checkpoint."""
        (self.path / "failed.json").unlink(missing_ok=True)


def now() -> str:
    """The time, UTC, in ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
