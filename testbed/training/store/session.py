"""Sessions: who trains a run, whether that process is alive, and what it has spent (lease, heartbeat and account in one).

Each time a process takes a run over it writes one more file, `sessions/0001.json`, `0002.json`, ...; the
last one owns the run. A number can be created only once, so of two processes one gets it, and an owner that
finds a number higher than its own has been superseded and stops writing. Whether an owner is alive is
decided without comparing clocks: on the same machine by a file lock, which ends with its process; on
another machine by the session's file, which its owner keeps rewriting. The files are kept: their sum is what
the run has cost, including what was lost on the way.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from testbed.errors import DiskError
from testbed.files import create_json, not_writable, write_json
from testbed.records import Record, as_json
from testbed.training.store.lock import Locked, hold, is_held

RENEWALS = 6  # of a session within one lease, at least


class Held(Exception):
    """Another process trains the run; the message says which."""


class Superseded(Exception):
    """Another process has taken the run over from this one, which may write no more."""


class Session(Record):
    """One process's time with a run.

    `steps` are the optimiser steps done in this session; `reached` is the step that the run has come to, of
    spec.steps. `seconds` is the run's share of the session's time (a pack's time divided by its runs), and
    `setup` the part of it before the first step. `processes` train the run together; `beat` counts renewals.
    """

    owner: str
    machine: str
    host: str
    pid: int
    started: str
    processes: int = 1
    beat: int = 0
    steps: int = 0
    reached: int = 0
    seconds: float = 0.0
    setup: float = 0.0
    released: bool = False


class Claim:
    """The session of this process with a run that it owns: renewed while it trains, checked before it writes."""

    def __init__(self, folder: Path, number: int, session: Session) -> None:
        self._folder, self._number, self._session = folder, number, session

    def renew(self, steps: int, reached: int, seconds: float, setup: float = 0.0) -> None:
        """Record that this process is alive, and what the session has done so far (see Session)."""
        changes = {"steps": steps, "reached": reached, "seconds": round(seconds, 3), "setup": round(setup, 3)}
        self._write(changes | {"beat": self._session.beat + 1})

    def release(self) -> None:
        """Give the run back; the session's file stays as the record of what it has spent."""
        self._write({"released": True})

    def check(self) -> None:
        """Raise Superseded if the run is no longer this process's, DiskError if its folder has vanished."""
        if not self._folder.is_dir():
            raise DiskError(
                f"{self._folder}: the run's folder has vanished during training; make its disk available again and repeat "
                "the command, which resumes from the last checkpoint"
            )
        if _file(self._folder, self._number + 1).exists() or not _file(self._folder, self._number).exists():
            raise Superseded(f"{self._folder}: another process has taken this run over")

    def _write(self, changes: dict[str, Any]) -> None:
        self._session = self._session.model_copy(update=changes)
        self.check()
        write_json(_file(self._folder, self._number), as_json(self._session))


@contextmanager
def claimed(folder: Path, lease_seconds: float, processes: int = 1) -> Iterator[Claim]:
    """Own the run in `folder` while the block runs; a run whose owner is dead is taken over.

    An owner on another machine is dead when its session has not changed for `lease_seconds`; this call
    waits that long to find out.

    Raises:
        Held: Another process owns the run.
    """
    try:
        folder.parent.mkdir(exist_ok=True)  # no parents: where the sweep's folder has vanished nothing is made
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise not_writable(folder / "lock", error) from error
    with ExitStack() as stack:
        try:
            locked = stack.enter_context(hold(folder / "lock", str(folder)))
        except Locked:
            raise Held(f"{folder}: {_owner(last_session(folder)[1])} is training this run") from None
        number, session = last_session(folder)
        dead = session is None or session.released or (locked and session.machine == machine())
        if number and not dead and _changes(_file(folder, number), lease_seconds):
            raise Held(f"{folder}: {_owner(session)} is training this run")
        mine = Session(
            owner=uuid.uuid4().hex,
            machine=machine(),
            host=socket.gethostname(),
            pid=os.getpid(),
            started=now(),
            processes=processes,
        )
        try:
            create_json(_file(folder, number + 1), as_json(mine))
        except FileExistsError:
            raise Held(f"{folder}: another process has just taken this run") from None
        yield Claim(folder, number + 1, mine)


def sessions(folder: Path) -> list[Session]:
    """Every readable session of the run in `folder`, the oldest first."""
    found = [_read(_file(folder, number)) for number in _numbers(folder)]
    return [session for session in found if session is not None]


def last_session(folder: Path) -> tuple[int, Session | None]:
    """The newest session's number (0 where there is none) and content (None where it cannot be read)."""
    number = max(_numbers(folder), default=0)
    return number, _read(_file(folder, number)) if number else None


class OwnerMonitor:
    """Says whether the owners of runs are alive, from repeated observations; a single one cannot tell for another machine."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._seen: dict[Path, tuple[int, Session | None, float]] = {}

    def alive(self, folder: Path) -> bool:
        """Whether the run in `folder` has a living owner.

        A session on another machine is presumed alive until it has been seen unchanged for a whole lease.
        """
        if is_held(folder / "lock"):
            return True
        number, session = last_session(folder)
        if not number or (session is not None and (session.released or session.machine == machine())):
            return False
        before = self._seen.get(folder)
        if before is None or before[:2] != (number, session):
            self._seen[folder] = (number, session, time.monotonic())
            return True
        return time.monotonic() - before[2] < self._lease_seconds


def now() -> str:
    """The time, UTC, in ISO 8601 to the second: for people to read, never to compute with."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@lru_cache
def machine() -> str:
    """An identifier of this machine since its last start."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()}-{uuid.getnode():x}"


def _changes(path: Path, seconds: float) -> bool:
    """Whether the file changes within so many seconds; waits until it does."""
    first = _bytes(path)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(1.0, seconds / 20))
        if _bytes(path) != first:
            return True
    return False


def _owner(session: Session | None) -> str:
    return f"process {session.pid} on {session.host}" if session else "another process"


def _file(folder: Path, number: int) -> Path:
    return folder / "sessions" / f"{number:04d}.json"


def _numbers(folder: Path) -> list[int]:
    try:
        stems = [path.stem for path in (folder / "sessions").iterdir() if path.suffix == ".json"]
    except OSError:
        return []
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _read(path: Path) -> Session | None:
    try:
        return Session.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
