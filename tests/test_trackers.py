"""TensorBoard and W&B are told what the record holds; the record, the hash and the sweep do without them."""

import json
import logging
import struct
import subprocess
import sys

import pytest

from testbed.config import Config
from testbed.config.loading import check_config, tomllib
from testbed.errors import ConfigError
from testbed.study import Study
from testbed.training.executors import trackers
from testbed.training.executors.training_run import Outcome
from tests.helpers.sweeps import TINY, Quiet

pytestmark = pytest.mark.usefixtures("warm")
PYTHON = sys.executable  # one that imports everything itself

SMALL = TINY.replace("widths = [8, 16, 24]", "widths = [8]").replace("10_240, 20_480, 40_960", "5_120, 10_240")
SMALL = SMALL[: SMALL.index("[target]")]


def study_of(tracker, path):
    config = check_config(tomllib.loads(SMALL + tracker), "the test")
    return Study.create(config, path)


def logged(study):
    """Phase and tokens -> loss of each run, from the record."""
    return {spec.run_id: {(e.phase, e.tokens): e.loss for e in study.folder.run(spec).evals()} for spec in study.grid}


@pytest.fixture
def plain(tmp_path):
    study = study_of("", tmp_path / "plain")
    study.train("grid", Quiet())
    return study


def test_tensorboard_reads_back_every_loss(plain, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra trackers")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    study = study_of('[tracker]\nkind = "tensorboard"', tmp_path / "told")
    study.train("grid", Quiet())
    record = logged(study)
    assert record == logged(plain)  # bit for bit: to be watched changes nothing
    folders = {path.name: path for path in (study.folder.path / "trackers" / "tensorboard").iterdir()}
    assert set(folders) == set(record)
    for run_id, losses in record.items():
        events = EventAccumulator(str(folders[run_id]))
        events.Reload()
        for phase in {phase for phase, _ in losses}:
            told = {(phase, e.step): e.value for e in events.Scalars(f"loss/{phase}")}
            expected = {key: loss for key, loss in losses.items() if key[0] == phase}
            assert told == pytest.approx(expected, rel=1e-6)  # its files hold single precision
        assert "lr/annealed" in events.Tags()["scalars"] and "bpb/annealed" not in events.Tags()["scalars"]
        assert b"lr_hidden" in b"".join(path.read_bytes() for path in folders[run_id].iterdir())


@pytest.mark.slow
def test_wandb_keeps_its_runs_offline(tmp_path):
    """In a process of its own, as from a shell: W&B starts a service that ends with its process."""
    pytest.importorskip("wandb", reason="needs the extra trackers")
    (tmp_path / "c.toml").write_text(SMALL + '[tracker]\nkind = "wandb"\noffline = true\nproject = "told"\n')
    command = [sys.executable, "-m", "testbed", "train", str(tmp_path / "c.toml"), "--out", str(tmp_path / "told")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "no longer logged to" not in told.stderr
    study = Study.open(tmp_path / "told")
    runs = list((tmp_path / "told" / "trackers" / "wandb" / "wandb").glob("offline-run-*"))
    files = [next(run.glob("*.wandb")) for run in runs]
    content = {path.name: path.read_bytes() for path in files}
    for spec in study.grid:
        (name,) = [name for name in content if spec.run_id in name]
        found = history(next(path for path in files if path.name == name))
        expected = {(f"loss/{phase}", tokens): loss for (phase, tokens), loss in logged(study)[spec.run_id].items()}
        assert found == expected
        assert b"lr_hidden" in content[name] and spec.data.fingerprint.encode() in content[name]
    assert len(files) == len(study.grid)


def history(path):
    """What a W&B file says of losses, (name, tokens) -> value."""
    from wandb.proto import wandb_internal_pb2

    found = {}
    for content in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found |= {(name, row["tokens"]): value for name, value in row.items() if name.startswith("loss/")}
    return found


def records(content, block=32768):
    """The records of a log in LevelDB's format, after W&B's seven bytes: parts of a checksum, a length and a type."""
    at, begun = 7, b""
    while at + 7 <= len(content):
        if block - at % block < 7:  # no room for a header: the rest of the block is empty
            at += block - at % block
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        begun += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield begun
            begun = b""


@pytest.mark.slow
def test_a_tracker_that_fails_is_dropped_with_one_warning(tmp_path, caplog):
    pytest.importorskip("tensorboard", reason="needs the extra trackers")
    study = study_of('[tracker]\nkind = ["tensorboard"]', tmp_path / "told")
    (study.folder.path / "trackers").write_text("a file where its folder should be")
    with caplog.at_level(logging.WARNING, "testbed"):
        study.train("grid", Quiet())
    warnings = [r.getMessage() for r in caplog.records if "no longer logged to" in r.getMessage()]
    assert len(warnings) == 1 and warnings[0].startswith("tensorboard failed")
    assert all(study.folder.run(spec).state() == "done" for spec in study.grid)


def test_wandb_without_a_key_does_not_ask_for_one(tmp_path, caplog, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra trackers")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    study = study_of('[tracker]\nkind = "wandb"', tmp_path / "told")
    spec = study.grid[0]
    with caplog.at_level(logging.WARNING, "testbed"), trackers.tracked(Quiet(), study.folder) as told:
        told.evaluated(spec, an_eval(spec))
        told.evaluated(spec, an_eval(spec))
        told.ended(spec, Outcome(spec.run_id, "done"))
    assert [r.getMessage() for r in caplog.records if "wandb failed" in r.getMessage() and "no key" in r.getMessage()]
    assert sum("no longer logged to" in r.getMessage() for r in caplog.records) == 1


def an_eval(spec):
    from testbed.records import Eval

    values = {"tokens": 256, "flops": 1, "loss": 2.0, "bpb": None, "train_loss": 2.0, "lr": 0.1, "seconds": 0.0}
    return Eval(phase="stable", horizon=None, step=1, **values)


def test_trackers_are_no_part_of_a_sweeps_identity(tmp_path):
    without = check_config(tomllib.loads(SMALL), "a")
    told = check_config(tomllib.loads(SMALL + '[tracker]\nkind = ["wandb", "tensorboard"]'), "b")
    assert told.hash() == without.hash()
    assert check_config(tomllib.loads(told.to_toml()), "c") == told
    study_of("", tmp_path / "s")
    again = study_of('[tracker]\nkind = "tensorboard"', tmp_path / "s")  # turned on later, in the same folder
    assert Study.open(again.folder.path).folder.config.tracker is not None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('kind = "mlflow"', r"tracker\.kind.*mlflow"),
        ("kind = []", r"tracker\.kind"),
        ('kind = "wandb"\ndir = "../elsewhere"', r"tracker\.dir"),
        ('kind = "wandb"\nproject = "a/b"', r"tracker\.project"),
        ("", r"tracker\.kind: missing"),
    ],
)
def test_mistakes_in_the_table_are_told(table, message):
    with pytest.raises(ConfigError, match=message):
        check_config(tomllib.loads(f"{SMALL}[tracker]\n{table}"), "c.toml")


@pytest.mark.slow
def test_a_missing_package_is_named_before_anything_starts(tmp_path):
    """A Python that really lacks them: one that looks for packages in the standard library's folders only."""
    code = (
        "import sys; from importlib.machinery import PathFinder\n"
        "from pathlib import Path; from testbed.study import Study; from tests.helpers.sweeps import Quiet\n"
        "class Without(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        return None if name in ('tensorboard', 'wandb') else super().find_spec(name, path, target)\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if f is not PathFinder] + [Without]\n"
        "Study.open(Path(sys.argv[1])).train('grid', Quiet())\n"
    )
    study = study_of('[tracker]\nkind = ["tensorboard", "wandb"]', tmp_path / "s")
    told = subprocess.run([PYTHON, "-c", code, str(study.folder.path)], capture_output=True, text=True, timeout=120)
    assert "ConfigError" in told.stderr and "pip install " in told.stderr
    assert not (study.folder.path / "runs").exists()


def test_a_configuration_needs_no_tracker():
    assert Config.model_fields["tracker"].default is None
