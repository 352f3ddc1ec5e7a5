"""What every hostile input is held against: it is accepted, or refused in one message; and nothing else happens."""

from __future__ import annotations

import os
import resource
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from testbed.errors import TestbedError
from tests.helpers.command_line import command

LONGEST = 8000  # characters of a message
# TESTBED_FUZZ=5000 tries as many inputs in each test, others each time
_ASKED = os.environ.get("TESTBED_FUZZ")
EXAMPLES = int(_ASKED or 100)
_fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=_ASKED is None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def try_each(
    read: Callable[..., Any], *inputs: st.SearchStrategy[Any], examples: Sequence[tuple[Any, ...]] = ()
) -> Counter[str]:
    """Call `read` with EXAMPLES drawn inputs and the given examples; how many were accepted, and refused (None)."""
    ends = Counter[str]()

    def once(drawn: tuple[Any, ...]) -> None:
        ends["refused" if read(*drawn) is None else "accepted"] += 1

    for given_one in examples:
        once = example(drawn=given_one)(once)
    _fuzzed(given(drawn=st.tuples(*inputs))(once))()
    sys.stdout.write(f"{ends.total()} inputs, {dict(ends)}\n")
    assert ends.total() >= EXAMPLES + len(examples)
    return ends


def result_or_none(read: Callable[[], Any], *places: str | Path) -> Any:
    """The result of `read`, or None where it refuses in one message of bounded length that names one of the places."""
    try:
        return read()
    except TestbedError as error:
        message = str(error)
        assert any(str(place) in message for place in places), message
        assert 10 < len(message) <= LONGEST + sum(len(str(place)) for place in places), message[:500]
        return None


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder: kind, size and time of each entry, links not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        found[str(path)] = (facts.st_mode, facts.st_size if path.is_file() else 0, facts.st_mtime_ns)
    return found


def limited_command(*arguments: object, cwd: Path, memory: int | None = None, seconds: float = 120, **env: str) -> Any:
    """The command line in a process of its own, with so many bytes of address space at most."""

    def limit() -> None:
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    environment = {**os.environ, "COLUMNS": "80", **env}
    return command(*arguments, cwd=cwd, timeout=seconds, errors="replace", preexec_fn=limit, env=environment)


def refusal(end: Any) -> str:
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
