"""Platforms without POSIX's file locks and resource limits: everything but training works, and training says why not."""

import subprocess
import sys

import pytest

from tests.helpers.sweeps import fresh

WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
COMMAND = "from testbed.cli import main; sys.argv[0] = 'testbed'; main()"
CLAIM = """
from pathlib import Path
from testbed.training.store.session import claimed
claimed(Path(sys.argv[1]), 1.0).__enter__()
"""


def without_posix(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def runs(tmp_path):
    rows = [
        f"{n},{tokens},{1.7 + 400 / n**0.34 + 410 / tokens**0.28}"
        for n in (1e6, 3e6, 1e7, 3e7)
        for tokens in (1e8, 1e9, 1e10)
    ]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["n_params_non_embedding,tokens,loss", *rows]) + "\n")
    return path


def test_a_table_is_fitted_without_posix(runs):
    end = without_posix(COMMAND, "fit", runs, "--bootstrap", 20, "--json")
    assert end.returncode == 0, end.stderr
    assert '"alpha"' in end.stdout


@pytest.mark.parametrize("command", ["status", "points"])
def test_a_sweep_is_read_without_posix(tiny_toml, tmp_path, command):
    sweep = fresh(tiny_toml, tmp_path / "sweep")
    end = without_posix(COMMAND, command, sweep.path)
    assert end.returncode == 0, end.stderr


def test_a_run_that_cannot_be_locked_on_this_platform_is_refused_in_one_sentence(tmp_path):
    end = without_posix(CLAIM, tmp_path / "run")
    assert "training needs the file locks of Linux or macOS, which this platform lacks" in end.stderr.splitlines()[-1]
