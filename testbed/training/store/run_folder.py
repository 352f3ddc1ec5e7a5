"""One run's folder: its spec, provenance, evaluations and checkpoints, and how the run ended."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from testbed.errors import RunFailed
from testbed.files import append_line, stay_inside, write_json
from testbed.records import Done, Eval, Failed, Notice, Provenance, RunSpec, as_json, read_record, read_records
from testbed.training.store.lock import is_held
from testbed.training.store.session import Claim, Session, claimed, last_session, machine, now, sessions

_RECENT = 120.0  # seconds; twice the usual lease

State = Literal["done", "running", "paused", "failed", "to do"]


class RunFolder:
    """runs/<sweep>/runs/<run_id>; nothing in it is rewritten once the run is done."""

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path, self.spec = path, spec
        self._claim: Claim | None = None

    @property
    def checkpoints(self) -> Path:
        """Where the trainer keeps its state, and at the end the weights."""
        return self.path

    def state(self) -> State:
        """The run's state; "running" while its owner is alive, which is a guess for an owner on another machine."""
        if (self.path / "done.json").exists():
            return "done"
        if is_held(self.path / "lock") or self._is_renewed():
            return "running"
        if (self.path / "failed.json").exists():
            return "failed"
        return "paused" if (self.path / "spec.json").exists() else "to do"

    def ended(self) -> bool:
        """Whether the run is done, or has failed and is not being tried again at this moment."""
        return self.state() in ("done", "failed")

    @contextlib.contextmanager
    def claimed(self, lease_seconds: float) -> Iterator[Claim]:
        """Own the run while the block runs (see session.claimed); this object then writes nothing once it is superseded."""
        for path in (self.path, self.path / "lock", self.path / "sessions"):
            stay_inside(self.path.parent.parent, path)
        with claimed(self.path, lease_seconds, self.spec.engine.processes) as claim:
            self._claim = claim
            try:
                yield claim
            finally:
                self._claim = None

    def sessions(self) -> list[Session]:
        """The sessions of the processes that have trained the run, with what each spent."""
        return sessions(self.path)

    def begin(self, provenance: Provenance) -> None:
        """Write the spec and the provenance of this start, and forget an earlier failure."""
        self._check()
        self.forget_failure()
        write_json(self.path / "spec.json", as_json(self.spec))
        append_line(self.path / "provenance.jsonl", json.dumps(as_json(provenance)))

    def log(self, evaluation: Eval) -> None:
        """Append one evaluation."""
        self._check()
        append_line(self.path / "evals.jsonl", evaluation.model_dump_json())

    def evals(self) -> list[Eval]:
        """Every evaluation so far, in the order taken."""
        return read_records(self.path / "evals.jsonl", Eval, "move the run's folder away to train it again")

    def provenance(self) -> list[Provenance]:
        """One record for each time the run was started."""
        return read_records(self.path / "provenance.jsonl", Provenance)

    def notice(self, message: str) -> None:
        """Record that something went wrong and was dealt with, so that the run went on."""
        self._check()
        append_line(self.path / "notices.jsonl", Notice(at=now(), message=message).model_dump_json())

    def notices(self) -> list[Notice]:
        """What has gone wrong so far and was dealt with."""
        return read_records(self.path / "notices.jsonl", Notice)

    def finish(self, steps: int, tokens: int, seconds: float) -> None:
        """Mark the run done and delete its checkpoints.

        Raises:
            RunFailed: Steps, tokens or horizons differ from the plan.
        """
        found = {"steps": steps, "tokens": tokens}
        planned = {"steps": self.spec.steps, "tokens": self.spec.tokens}
        found |= {f"horizon {e.horizon}": e.tokens for e in self.evals() if e.phase == "annealed"}
        planned |= {f"horizon {h.tokens}": h.tokens for h in self.spec.horizons}
        if found != planned:
            raise RunFailed(
                f"{self.path}: trained {found}, but the plan is {planned}; move the folder away to train it again"
            )
        self._check()
        flops = tokens * self.spec.counts.flops_per_token
        done = Done(finished=now(), steps=steps, tokens=tokens, flops=flops, seconds=round(seconds, 3))
        write_json(self.path / "done.json", as_json(done))
        for path in (*self.path.glob("trunk.*"), *self.path.glob("branch.*")):
            path.unlink(missing_ok=True)

    def fail(self, reason: str, details: str, diverged: bool = False) -> None:
        """Mark the run failed, with the reason."""
        self._check()
        failed = Failed(finished=now(), reason=reason, details=details, diverged=diverged)
        write_json(self.path / "failed.json", as_json(failed))

    def failure(self) -> Failed | None:
        """Why the run failed, if it did."""
        return read_record(self.path / "failed.json", Failed)

    def done(self) -> Done | None:
        """What the run did, if it is done."""
        return read_record(self.path / "done.json", Done)

    def forget_failure(self) -> None:
        """Allow the run to be tried again, from its last checkpoint."""
        (self.path / "failed.json").unlink(missing_ok=True)

    def _check(self) -> None:
        if self._claim is not None:
            self._claim.check()

    def _is_renewed(self) -> bool:
        """Whether a process on another machine seems to train the run, judged by the age of its session's file."""
        number, session = last_session(self.path)
        if session is None or session.released or session.machine == machine():
            return False
        try:
            renewed = (self.path / "sessions" / f"{number:04d}.json").stat().st_mtime
        except OSError:  # the disk has just vanished
            return False
        return time.time() - renewed < _RECENT
