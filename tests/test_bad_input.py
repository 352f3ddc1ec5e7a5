"""Whatever is wrong, a user gets one clear message and a non-zero exit, and what was finished stays as it was."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.cli.app import main
from testbed.config import load_config
from testbed.registry import CONSENT
from testbed.study import Study
from tests.helpers.finished import finish_by_law

pytestmark = pytest.mark.usefixtures("warm")

HEADER = "n_params,tokens,loss\n"
ROWS = [f"{n},{d},{2 + 30 / n**0.35 + 900 / d**0.45}" for n in (1e4, 1e5, 1e6) for d in (1e6, 1e7, 1e8)]


@pytest.fixture(scope="module")
def done(tiny_toml, tmp_path_factory):
    """A grid that is done and sealed; its target is still to do."""
    study = Study.create(load_config(tiny_toml), tmp_path_factory.mktemp("done") / "sweep")
    finish_by_law(study.folder, study.grid)
    study.seal()
    return study.folder.path


def contents(folder):
    files = (p for p in Path(folder).rglob("*") if p.is_file() and p.name != "lock" and "logs" not in p.parts)
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def table(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def toml(tmp_path, tiny_toml, old="", new=""):
    path = tmp_path / "c.toml"
    text = tiny_toml.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def unwritable(tmp_path):
    """A folder that cannot be written, for root too: it stands below a file."""
    (tmp_path / "file").write_text("x")
    return tmp_path / "file" / "out"


CASES = {
    "unknown key": (
        lambda t, c, d: ["run", toml(t, c, "depth = 2", "depht = 2")],
        'model.depht: unknown key; did you mean "depth"?',
    ),
    "wrong type": (
        lambda t, c, d: ["run", c, "--set", "train.lr=fast"],
        "train.lr: found 'fast', should be a valid number",
    ),
    "negative width": (
        lambda t, c, d: ["run", c, "--set", "grid.widths=[-8]"],
        "grid.widths[0]: found -8, should be greater",
    ),
    "zero tokens": (
        lambda t, c, d: ["run", c, "--set", "grid.tokens=[0]"],
        "grid.tokens[0]: found 0, should be greater than 0",
    ),
    "width that heads do not divide": (
        lambda t, c, d: ["plan", c, "--set", "grid.widths=[12]"],
        "width 12 is not a multiple",
    ),
    "configuration that is not there": (lambda t, c, d: ["run", t / "none.toml"], "no such file; give a TOML file"),
    "configuration that is not TOML": (lambda t, c, d: ["run", table(t, "a = = b", "c.toml")], "not valid TOML"),
    "configuration that is not UTF-8": (
        lambda t, c, d: ["run", table(t, b"a = '\xff'", "c.toml")],
        "not UTF-8 at byte 5",
    ),
    "target inside the grid": (lambda t, c, d: ["run", c, "--set", "target.width=16"], "inside the grid"),
    "horizon beyond the data": (
        lambda t, c, d: ["run", c, "--set", "data.source=text:stdlib", "--set", 'target.tokens="9B"'],
        "a horizon of 9000000000 tokens is beyond the data",
    ),
    "text that is not there": (
        lambda t, c, d: ["run", c, "--set", f"data.source=text:{t}/none"],
        "no such file or folder",
    ),
    "folder without text": (lambda t, c, d: ["run", c, "--set", f"data.source=text:{t}"], "the folder holds no files"),
    "text that is not UTF-8": (
        lambda t, c, d: ["run", c, "--set", f"data.source=text:{table(t, b'caf' + bytes([0xE9]) * 9, 'a.txt')}"],
        "a.txt: not UTF-8 at byte 3",
    ),
    "unknown source": (
        lambda t, c, d: ["run", c, "--set", "data.source=web:x"],
        "data.source: found 'web:x'; accepted:",
    ),
    "unknown family": (
        lambda t, c, d: ["plan", c, "--set", "model.family=bert"],
        "model.family: found 'bert'; accepted: gpt",
    ),
    "unknown law in a configuration": (
        lambda t, c, d: ["run", c, "--set", 'forecast.laws=["zipf"]'],
        "unknown law 'zipf'; accepted",
    ),
    "one seed, so no noise": (
        lambda t, c, d: ["run", c, "--set", "grid.init_seeds=[0]"],
        "every cell of the grid has one seed",
    ),
    "fewer cells than parameters": (
        lambda t, c, d: ["run", c, "--set", "grid.widths=[8]"],
        "the grid has 3 cells (widths x horizons) for the 5 parameters of hoffmann",
    ),
    "device that is not there": (
        lambda t, c, d: ["plan", c, "--device", "tpu"],
        "execution.device: found 'tpu', should be 'auto', 'cpu'",
    ),
    "changed configuration on an old folder": (
        lambda t, c, d: ["run", c, "--set", "train.lr=0.005", "--out", d],
        "holds a sweep of another configuration; it differs in train.lr: 0.006 -> 0.005",
    ),
    "folder that cannot be written": (lambda t, c, d: ["run", c, "--out", unwritable(t)], "cannot write"),
    "folder of something else": (
        lambda t, c, d: ["run", c, "--out", table(t, "x").parent],
        "not empty, and not a sweep's folder",
    ),
    "status of no sweep": (lambda t, c, d: ["status", t], "not a sweep's folder (no config.toml)"),
    "verdict before the target is trained": (lambda t, c, d: ["validate", d], "2 of 2 target runs are not done"),
    "table that is not there": (lambda t, c, d: ["fit", t / "none.csv"], "none.csv: no such file"),
    "table of an unknown kind": (
        lambda t, c, d: ["fit", table(t, "x", "t.xls")],
        "found suffix '.xls'; accepted: .csv",
    ),
    "table without a loss": (lambda t, c, d: ["fit", table(t, "N,D,accuracy\n1,2,3\n")], "no column for loss"),
    "column that is not there": (
        lambda t, c, d: ["fit", table(t, HEADER + "\n".join(ROWS)), "--loss", "nll"],
        "no column for loss (looked for nll); the table has n_params, tokens, loss",
    ),
    "NaN losses": (
        lambda t, c, d: ["fit", table(t, HEADER + "\n".join([*ROWS, "1e6,1e9,nan"]))],
        "row 10: loss is nan",
    ),
    "negative sizes": (
        lambda t, c, d: ["fit", table(t, HEADER + "\n".join([*ROWS, "-5,1e9,2.0"]))],
        "row 10: n_params is -5",
    ),
    "words for numbers": (
        lambda t, c, d: ["fit", table(t, HEADER + "\n".join([*ROWS, "1e6,many,2.0"]))],
        "row 10: tokens is 'many'",
    ),
    "constant size": (
        lambda t, c, d: [
            "fit",
            table(t, HEADER + "\n".join(f"1000000,{d}000000,{3 - i / 10}" for i, d in enumerate(range(10, 90, 10)))),
        ],
        "n is 1e+06 in every row",
    ),
    "too few rows": (
        lambda t, c, d: ["fit", table(t, HEADER + "\n".join(ROWS[:4]))],
        "4 rows for the 5 parameters of hoffmann",
    ),
    "unknown law": (
        lambda t, c, d: ["fit", table(t, HEADER + "\n".join(ROWS)), "--law", "chinchila"],
        "unknown law 'chinchila'",
    ),
    "only losses that are not annealed": (
        lambda t, c, d: ["fit", table(t, "n_params,tokens,loss,phase\n" + "\n".join(f"{r},stable" for r in ROWS))],
        "no row with phase annealed (found stable)",
    ),
    "options out of range": (
        lambda t, c, d: ["fit", table(t, HEADER + "\n".join(ROWS)), "--level", "7"],
        "--level: found 7; accepted: above 0 and below 1",
    ),
    "points into an unknown format": (lambda t, c, d: ["points", d, "-o", t / "p.xlsx"], "found suffix '.xlsx'"),
    "unknown command": (lambda t, c, d: ["trian", c], "No such command 'trian'"),
    "unknown option": (lambda t, c, d: ["run", c, "--fast"], "No such option: --fast"),
    "override that is none": (lambda t, c, d: ["run", c, "--set", "train.lr"], "found no KEY=VALUE"),
}


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """The command line in this process, which has imported already what takes a command of its own seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv(CONSENT, "")
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["testbed", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_bad_input_gives_one_clear_message(case, tmp_path, tiny_toml, done, here):
    before = contents(done)
    arguments, message = CASES[case]
    work = tmp_path / "work"
    work.mkdir()
    code, out, err = here(*arguments(work, tiny_toml, done))
    told = " ".join(err.split())
    assert code == 2, out + err
    assert message in told
    assert told.startswith("error:")
    assert "Traceback" not in err + out
    assert contents(done) == before
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("evals.jsonl"))


def test_there_are_many_kinds_of_bad_input():
    assert len(CASES) >= 20


def test_json_of_an_error_is_still_an_error(tmp_path):
    command = [sys.executable, "-m", "testbed", "fit", str(tmp_path / "none.csv"), "--json"]
    end = subprocess.run(command, capture_output=True, text=True, check=False)
    assert end.returncode == 2
    with pytest.raises(json.JSONDecodeError):
        json.loads(end.stdout)
