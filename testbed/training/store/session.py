"""Sessions: who trains a run, whether that process lives, and what it has spent; lease, heartbeat and ledger in one.

`sessions/0001.json`, `0002.json`, ... are one file each time that some process takes the run over; the
last one owns the run. A number is made exclusively, so of two processes one gets it, and an owner that
finds a higher number than its own has been superseded and writes no more. Whether an owner lives is
told without any clock but the observer's own: on the same machine by a file lock, which ends with its
process, from another machine by the session's file, which its owner renews and which otherwise no
longer changes. The files stay: their sum is what the run has cost, with all that was lost on the way.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from testbed.errors import DiskError
from testbed.files import create_json, not_writable, write_json
from testbed.records import Record, as_json

BEATS = 6  # renewals in the time after which a session that does not change is taken to be dead
_PATIENCE = 0.5  # seconds; a reader may have the lock for a moment


class Held(Exception):
    """Another process trains the run; the message says which."""


class Superseded(Exception):
    """Another process has taken the run over from this one, which may write no more."""


class Session(Record):
    """One process's time with a run.

    `steps` are the optimiser steps done in this session, `reached` is how far the run has come, of
    spec.steps, `seconds` is the run's share of the session's time (a pack's time over its runs), and
    `setup` what of that passed before the first step. `processes` share the run, `beat` counts the renewals.
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
    """A session of this process's own: renewed while it trains, checked before it writes."""

    def __init__(self, folder: Path, number: int, session: Session) -> None:
        self._folder, self._number, self._session = folder, number, session

    def renew(self, steps: int, reached: int, seconds: float, setup: float = 0.0) -> None:
        """Say that this process lives, and what the session has done so far (see Session)."""
        changes = {"steps": steps, "reached": reached, "seconds": round(seconds, 3), "setup": round(setup, 3)}
        self._session = self._session.model_copy(update=changes | {"beat": self._session.beat + 1})
        self.check()
        write_json(self._path(self._number), as_json(self._session))

    def release(self) -> None:
        """Give the run back; the session's file stays as the record of what it has spent."""
        self.check()
        self._session = self._session.model_copy(update={"released": True})
        write_json(self._path(self._number), as_json(self._session))

    def check(self) -> None:
        """Superseded if the run is no longer this process's, DiskError if its folder has vanished."""
        if not self._folder.is_dir():
            raise DiskError(
                f"{self._folder}: the run's folder has vanished while it was trained; make its disk available again "
                "and repeat the command, which goes on from the last checkpoint"
            )
        if self._path(self._number + 1).exists() or not self._path(self._number).exists():
            raise Superseded(f"{self._folder}: another process has taken this run over")

    def _path(self, number: int) -> Path:
        return _file(self._folder, number)


@contextmanager
def claimed(folder: Path, lease_seconds: float, processes: int = 1) -> Iterator[Claim]:
    """Own the run in `folder`; Held if another process does. A dead owner's run is taken over.

    An owner on another machine is dead when its session has not changed for `lease_seconds`, for which
    this call then waits.
    """
    with _lock(folder) as alone:
        number, session = last_session(folder)
        dead = session is None or session.released or (alone and session.machine == machine())
        if number and not dead and _beats(_file(folder, number), lease_seconds):
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
    """Every session of the run in `folder` that can be read, the oldest first."""
    found = [_read(_file(folder, number)) for number in _numbers(folder)]
    return [session for session in found if session is not None]


def last_session(folder: Path) -> tuple[int, Session | None]:
    """The number of the newest session, 0 where there is none, and what it says; None where it cannot be read."""
    number = max(_numbers(folder), default=0)
    return number, _read(_file(folder, number)) if number else None


def is_locked(folder: Path) -> bool:
    """Whether some process of this machine (or, where locks are shared, of another) owns the run in `folder`."""
    try:
        lock = (folder / "lock").open("rb")
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # locks are not for this disk
            return False
        return False


class Lookout:
    """Tells of runs whether their owners live, by looking again and again: from one look nothing can be told."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._seen: dict[Path, tuple[int, Session | None, float]] = {}

    def lives(self, folder: Path) -> bool:
        """Whether the owner of the run in `folder` lives, as far as one can know; one of elsewhere is believed at first."""
        if is_locked(folder):
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
    """The time, UTC, in ISO 8601 to the second: for people to read, never to reckon with."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@lru_cache
def machine() -> str:
    """What tells this machine, from its last start on, from every other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()}-{uuid.getnode():x}"


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Hold the run's file lock; Held if another process has it. False where the disk knows no locks."""
    try:
        folder.parent.mkdir(exist_ok=True)  # and no further: where the sweep's folder has vanished nothing is made
        folder.mkdir(exist_ok=True)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise not_writable(folder / "lock", error) from error
    with lock:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                raise Held(f"{folder}: {_owner(last_session(folder)[1])} is training this run") from None
            except OSError:
                yield False
                return
            yield True
            return


def _beats(path: Path, lease_seconds: float) -> bool:
    """Whether the session's file changes within `lease_seconds`."""
    first = _bytes(path)
    deadline = time.monotonic() + lease_seconds
    while time.monotonic() < deadline:
        time.sleep(min(1.0, lease_seconds / 20))
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
