"""What every hostile input is held against: it is accepted, or refused in one message; and nothing else happens."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from testbed.errors import TestbedError

LONGEST = 8000  # characters of a message
LEAST = 200  # inputs of each kind of file

# TESTBED_FUZZ=5000 tries as many inputs of each kind, others each time
_ASKED = os.environ.get("TESTBED_FUZZ")
fuzzed = settings(
    max_examples=int(_ASKED or 100),
    deadline=None,
    derandomize=_ASKED is None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Tally:
    """How many inputs were tried, and how they ended."""

    def __init__(self, what: str) -> None:
        self.what, self.ends = what, Counter[str]()

    def tried(self, read: Callable[[], Any], *places: str | Path) -> Any:
        """What `read` gives, or None where it refuses in one message of bounded length that names one of the places."""
        try:
            found = read()
        except TestbedError as error:
            message = str(error)
            assert any(str(place) in message for place in places), message
            assert 10 < len(message) <= LONGEST + sum(len(str(place)) for place in places), message[:500]
            self.ends["refused"] += 1
            return None
        self.ends["accepted"] += 1
        return found

    def check(self, capsys: Any, least: int = LEAST) -> None:
        """Print the number of inputs; there have to be enough, and some that are read and some that are not."""
        with capsys.disabled():
            sys.stdout.write(f"\n{self.what}: {self.ends.total()} inputs, {dict(self.ends)}\n")
        assert self.ends.total() >= least, "too few, or the file's tests were split among processes (--dist loadfile)"
        assert self.ends["refused"]
        assert self.ends["accepted"]


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder: kind, size and time of each entry, links not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        found[str(path)] = (facts.st_mode, facts.st_size if path.is_file() else 0, facts.st_mtime_ns)
    return found


def command_line(*arguments: object, cwd: Path, memory: int | None = None, seconds: float = 120, **env: str) -> Any:
    """The real command line in a process of its own, with so many bytes of address space at most."""
    import resource

    def limit() -> None:
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "testbed", *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd=cwd,
        timeout=seconds,
        preexec_fn=limit,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "80", **env},
    )


def told(end: Any) -> str:
    """The one message of a command that refused its input: exit code 2 and no traceback."""
    assert "Traceback" not in end.stderr + end.stdout, end.stderr
    assert end.returncode == 2, end.stderr + end.stdout
    assert end.stderr.startswith("error:"), end.stderr
    return " ".join(end.stderr.split())


def mutated(base: bytes) -> st.SearchStrategy[bytes]:
    """Bytes like `base` with up to eight cuts, flips, repeats and foreign pieces."""
    pieces = st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r\n", b'"', b"'", b"[", b"{", b"=", b",", b"\t"]
        ),
        st.sampled_from([b"nan", b"-inf", b"1e999", b"9" * 400, b"null", b"true", b"\\ud800", b"../../x", b"<script>"]),
    )
    edit = st.tuples(st.integers(0, max(len(base) - 1, 0)), st.integers(0, 12), pieces)

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = base
        for at, length, piece in edits:
            content = content[:at] + piece + content[at + length :]
        return content

    cut = st.integers(0, len(base)).map(lambda at: base[:at])
    flip = st.tuples(st.integers(0, max(len(base) - 1, 0)), st.integers(0, 7)).map(
        lambda where: base[: where[0]] + bytes([base[where[0]] ^ (1 << where[1])]) + base[where[0] + 1 :]
    )
    return st.one_of(st.lists(edit, min_size=1, max_size=8).map(apply), cut, flip, st.binary(max_size=200))
