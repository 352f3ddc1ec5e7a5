"""Checkpoints and weights of any bytes: read whole and checked, or reported; a damaged one is never resumed."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from hypothesis import strategies as st

from testbed.errors import FolderError, RunFailed
from testbed.files import write_text
from testbed.records import as_json
from testbed.training.train import Interruptions, train
from testbed.training.train.checkpoints.checkpoint import Cursor, _generators, _save, read_weights, save_weights
from testbed.training.train.checkpoints.rotation import PATHS, Checkpoints
from testbed.training.train.checkpoints.validity import cursor_fault
from testbed.training.train.events import Finished, Logged, Warned
from tests.helpers.hostile import mutated, result_or_none, snapshot, try_each

RUNS = "w0008-i0-d8-0123456789"
STATE = {"weight/a": torch.arange(12.0).reshape(3, 4), "moment/a": torch.ones(3, 4), "loss_sum": torch.zeros(1)}


@pytest.fixture
def tmp_path(tmp_path):
    """A folder in one of the test's own: what lies beside it is watched."""
    path = tmp_path / "inside"
    path.mkdir()
    return path


def forged(path, tensors, header):
    """A checkpoint whose digest fits, whatever it holds: whoever writes it can work the digest out."""
    _save(path, tensors, header)


def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "trunk.safetensors"
    forged(
        path, STATE | {"generator/cpu": torch.get_rng_state()}, {"cursor": json.dumps(as_json(Cursor(run_ids=RUNS)))}
    )
    return path.read_bytes()


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return whole(tmp_path_factory)


def framed(header: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    """A safetensors file: the header's length, the header, the data."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def found_in(folder, content, fault=lambda checkpoint: None):
    """What a shelf finds where the newest checkpoint holds `content`; what it holds is told, and used only if it is sound."""
    path = folder / "trunk.safetensors"
    path.write_bytes(content)
    before = snapshot(folder.parent)
    checkpoints = Checkpoints(folder, RUNS, fault)
    used = checkpoints.latest(*PATHS)
    told = list(checkpoints.problems(used))
    assert snapshot(folder.parent) == before
    if used is None:
        (message,) = told
        assert message.startswith(f"{path}: ")
        assert "starting over" in message
        assert len(message) < 3000
    else:
        assert used.cursor.run_ids == RUNS
    return used


@pytest.mark.slow
def test_mutated_checkpoints(tmp_path, content):
    def read(changed):
        used = found_in(tmp_path, changed)
        assert used is None or changed == content
        return used

    headers = mutated(content[:600]).map(lambda head: head + content[600:])
    assert try_each(read, st.one_of(mutated(content), headers), examples=[(content,)])["refused"]


def test_what_is_whole_is_gone_on_from(tmp_path, content):
    assert found_in(tmp_path, content) is not None


def test_every_flipped_bit_is_noticed(tmp_path, content):
    def flipped(at):
        changed = bytearray(content)
        changed[at // 8] ^= 1 << at % 8
        return found_in(tmp_path, bytes(changed))

    assert not try_each(flipped, st.integers(0, 8 * len(content) - 1))["accepted"]


entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "I8", "BF16", "F8_E4M3", "X99", "", 3, None]),
        "shape": st.lists(st.sampled_from([0, 1, 2, 3, -1, 2**31, 2**63, 2**64, 1.5, "3", None]), max_size=4),
        "data_offsets": st.lists(st.sampled_from([0, 4, 8, 12, -1, 2**40, 2**63, "0", None]), min_size=1, max_size=3),
    }
)
headers = st.dictionaries(
    st.sampled_from(["weight/a", "generator/cpu", "loss_sum", "../../x", "__metadata__", "", "\u202e"]),
    st.one_of(entries, st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2), st.none(), st.integers()),
    max_size=4,
)


def test_headers_that_lie(tmp_path):
    def read(header, length, data):
        return found_in(tmp_path, framed(json.dumps(header).encode(), length, data))

    lengths = st.one_of(st.none(), st.integers(0, 2**64 - 1))
    assert not try_each(read, headers, lengths, st.binary(max_size=32))["accepted"]


values = st.one_of(
    st.integers(0, 9),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.one_of(st.none(), st.booleans(), st.text(max_size=9)),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def test_cursors_of_any_values(tmp_path, tiny_spec):
    ends = try_each(
        lambda key, value: cursor_with(tmp_path, tiny_spec, key, value),
        st.sampled_from([*as_json(Cursor(run_ids=RUNS)), "another"]),
        values,
    )
    assert ends["accepted"]
    assert ends["refused"]


def cursor_with(tmp_path, spec, key, value):
    path = tmp_path / "made"
    forged(path, STATE, {"cursor": json.dumps(as_json(Cursor(run_ids=RUNS)) | {key: value})})
    used = found_in(tmp_path, path.read_bytes(), lambda found: cursor_fault(found.cursor, (spec,)))
    if used is not None:  # it is where the runs begin, whatever it holds of their past losses
        assert as_json(used.cursor) | {key: 0} == as_json(Cursor(run_ids=RUNS)) | {key: 0}
        assert key in ("run_ids", "spent_seconds", "looks", "diverged", "rows") or getattr(used.cursor, key) == 0
    return used


ONE = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
CONTENTS = {
    "nothing": b"",
    "a header of 2^64 bytes": framed(b"{}", 2**64 - 1),
    "a header of 2^40 bytes": framed(b"{}", 2**40),
    "a header 100,000 deep": framed(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "two tensors in one place": framed(b'{"a":' + ONE + b',"b":' + ONE + b"}", None, b"1234"),
    "a tensor of 2^62 numbers": framed(b'{"a":' + ONE.replace(b"[1]", b"[4611686018427387904]") + b"}", None, b"1234"),
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.",
    "a zip": b"PK\x03\x04" + b"\0" * 60,
}


@pytest.mark.parametrize("name", CONTENTS)
def test_files_that_are_none(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert found_in(tmp_path, CONTENTS[name]) is None
    assert not (tmp_path / "ran").exists()


def test_weights_of_any_bytes(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"a": STATE["weight/a"]}, {"run_id": RUNS})

    def read(content):
        path.write_bytes(content)
        return result_or_none(lambda: read_weights(path, RUNS), path)

    assert try_each(read, mutated(path.read_bytes()))["refused"]


# --- and through a whole run --------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tiny_spec, tiny_source, tmp_path_factory):
    spec = tiny_spec.model_copy(update={"horizons": tiny_spec.horizons[:1], "engine": type(tiny_spec.engine)()})
    return spec, outcome(spec, tiny_source, tmp_path_factory.mktemp("undisturbed"))


def outcome(spec, source, folder):
    """Losses, and what was told, of a run in `folder`."""
    events = list(train((spec,), source, (folder,), torch.device("cpu"), (frozenset(),), Interruptions()))
    assert isinstance(events[-1], Finished)
    losses = {e.evaluation.key: e.evaluation.loss for e in events if isinstance(e, Logged)}
    return losses, [event for event in events if isinstance(event, Warned)]


def state_of(spec, source):
    from testbed.training.train.learners import make_learner

    held = make_learner((spec,), source, torch.device("cpu")).state()
    return {name: t.clone().contiguous() for name, t in held.items()} | {
        f"generator/{n}": t for n, t in _generators().items()
    }


FORGERIES = {
    "no tensors": lambda state: {},
    "a tensor that is missing": lambda state: dict(list(state.items())[1:]),
    "a tensor of another shape": lambda state: state | {next(iter(state)): torch.zeros(3)},
    "a tensor of another type": lambda state: state | {next(iter(state)): next(iter(state.values())).to(torch.int32)},
    "a generator that is none": lambda state: state | {"generator/cpu": torch.zeros(3, dtype=torch.uint8)},
    "a generator of floats": lambda state: state | {"generator/cpu": torch.zeros(5056)},
    "another tensor": lambda state: state | {"../../x": torch.zeros(3)},
}
CURSORS = {
    "a horizon beyond the last": {"horizon": 9},
    "a step beyond the last": {"step": 10**9},
    "a step that does not fit its tokens": {"step": 7},
    "runs that diverged and are not there": {"diverged": {"x": "y", "5": "z"}},
    "a pass of no windows": {"rows": 0},
    "a pass of windows beyond the batch": {"rows": 10**9},
}


@pytest.mark.parametrize("name", [*FORGERIES, *CURSORS])
def test_a_forged_checkpoint_is_told_and_the_run_is_what_it_would_be(name, undisturbed, tiny_source, tmp_path):
    spec, (losses, _) = undisturbed
    state = FORGERIES.get(name, lambda state: state)(state_of(spec, tiny_source))
    cursor = as_json(Cursor(run_ids=spec.run_id)) | CURSORS.get(name, {})
    forged(tmp_path / "trunk.safetensors", state, {"cursor": json.dumps(cursor)})
    before = snapshot(tmp_path.parent)
    try:
        found, warnings = outcome(spec, tiny_source, tmp_path)
    except (FolderError, RunFailed) as error:
        assert str(tmp_path) in str(error)
    else:
        assert warnings
        assert found == losses
    assert all(path in before or path.startswith(str(tmp_path)) for path in snapshot(tmp_path.parent))


def test_a_planted_link_in_the_place_of_a_checkpoint_is_replaced_not_followed(undisturbed, tiny_source, tmp_path):
    spec, (losses, _) = undisturbed
    outside, folder = tmp_path / "outside.txt", tmp_path / "run"
    folder.mkdir()
    write_text(outside, "precious")
    (folder / "weights.safetensors").symlink_to(outside)
    (folder / "trunk.safetensors").symlink_to(outside)
    assert outcome(spec, tiny_source, folder)[0] == losses
    assert outside.read_text() == "precious"
