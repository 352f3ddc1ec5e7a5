"""The check of a GPU: its arguments, what it says without a GPU, and that no stage takes more than its time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from scripts import gpu_check
from scripts.gpu_stages.findings import Findings

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "gpu_check.py"
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says something else with a GPU")


def check(*words, dry=False):
    environment = {**os.environ, "GPU_CHECK_DRY": "1" if dry else ""}
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@without_gpu
@pytest.mark.slow
def test_without_a_gpu_it_says_so_in_one_sentence(tmp_path):
    ended = check(tmp_path / "out")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "torch sees no CUDA GPU here; run it where there is one, or set GPU_CHECK_DRY=1" in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["OUT", "--minutes", "0"], "--minutes: found 0; accepted: a number above 0"),
        (["OUT", "--only", "speeed"], "invalid choice: 'speeed'"),
        ([], "the following arguments are required: out"),
    ],
)
def test_wrong_arguments_are_told(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_folder_for_results_is_no_file(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    with pytest.raises(SystemExit):
        gpu_check.main([str(tmp_path / "out")])
    assert "is a file; accepted: a folder" in capsys.readouterr().err


def test_every_stage_is_there_and_told_of():
    import importlib

    for name, (module, seconds) in gpu_check.STAGES.items():
        assert callable(getattr(importlib.import_module(f"scripts.gpu_stages.{module}"), name))
        assert f"    {name}" in gpu_check.__doc__
        assert f" {seconds:.0f} s" in gpu_check.__doc__
    assert sum(seconds for _, seconds in list(gpu_check.STAGES.values())[:5]) <= 500  # of which most end early


HANGS = (
    "import pathlib, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "pathlib.Path(sys.argv[1]).write_text(str(child.pid)); print('begun', flush=True); time.sleep(600)"
)


def is_gone(process):
    """Whether it runs no longer, waited for or not."""
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().split()[2] == "Z"


def test_a_stage_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    log, child = tmp_path / "log.txt", tmp_path / "child"
    started = time.monotonic()
    ending = gpu_check.run_boxed([sys.executable, "-c", HANGS, str(child)], log, "hangs", 4)
    assert ending.startswith("out of time after ")
    assert time.monotonic() - started < 30
    assert "===== hangs, at most 4 s\nbegun\n" in log.read_text()
    assert is_gone(child.read_text())


def test_a_check_that_is_told_to_end_leaves_no_stage_behind(tmp_path):
    child = tmp_path / "child"
    boxed = f"gpu_check.run_boxed([sys.executable, '-c', {HANGS!r}, {str(child)!r}], Path({str(tmp_path / 'log')!r}), 'x', 600)"
    script = (
        "import signal, sys; from pathlib import Path; from scripts import gpu_check;"
        f"signal.signal(signal.SIGTERM, gpu_check.end); {boxed}"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    while not child.exists() or not child.read_text():
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait(30) == 143
    assert is_gone(child.read_text())


def test_a_stage_that_fails_says_so(tmp_path):
    ending = gpu_check.run_boxed([sys.executable, "-c", "raise SystemExit(5)"], tmp_path / "log.txt", "fails", 30)
    assert ending.startswith("failed with exit status 5 after ")


def test_where_no_time_is_left_nothing_is_started(tmp_path):
    assert gpu_check.run_stages(tmp_path, ["machine", "speed"], 0.1) == dict.fromkeys(
        ("machine", "speed"), "no time left"
    )
    assert json.loads((tmp_path / "results.json").read_text())["stages"] == {
        "machine": "no time left",
        "speed": "no time left",
    }


@pytest.mark.slow
def test_an_error_is_a_finding_and_the_others_stay(tmp_path):
    find = Findings(tmp_path, "speed")
    find("first", {"tokens/s": 5})
    find.attempt("second", lambda: 1 / 0)
    find.attempt("third", lambda: "done")
    found = json.loads((tmp_path / "results.json").read_text())["speed"]
    assert found["first"] == {"tokens/s": 5}
    assert found["second"]["error"] == "ZeroDivisionError: division by zero"
    assert found["third"] == "done"


@without_gpu
@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_it_goes_through_dry(tmp_path):
    ended = check(tmp_path / "out", "--minutes", "30", "--only", "machine", "learners", "passes", dry=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert ended.stdout.endswith((tmp_path / "out" / "results.json").read_text() + "\n")
    assert all(ending.startswith("done after ") for ending in found["stages"].values())
    assert len(found["learners"]) == 11
    assert all("error" not in kind for kind in found["learners"].values())
    assert "fits: True" in found["passes"]["gpt2_124m"]
