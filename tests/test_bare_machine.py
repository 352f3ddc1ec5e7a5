"""A clone on a machine that only trains: testbed is not installed there, nor are the packages that draw its pages."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import testbed

ROOT = Path(__file__).parents[1]
DRAWING = ("altair", "jsonschema", "latex2mathml", "vl_convert")

# Python imports this module at its start, in the workers too.
SITECUSTOMIZE = f"""
import importlib.metadata
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {DRAWING}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Without())
installed = importlib.metadata.distribution

def distribution(name):
    if name == "testbed":
        raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)

importlib.metadata.distribution = distribution
"""


@pytest.fixture
def bare(tmp_path):
    """The environment of processes on such a machine."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}


def run(bare, *arguments):
    return subprocess.run([sys.executable, *map(str, arguments)], env=bare, capture_output=True, text=True, cwd=ROOT)


def test_the_version_is_that_of_the_installed_package():
    try:
        installed = version("testbed")
    except PackageNotFoundError:
        pytest.skip("testbed is not installed here")
    assert testbed.__version__ == installed


def test_versions_are_told_where_testbed_is_not_installed(bare):
    ended = run(bare, "-c", "from testbed.version import versions; print(versions('numpy'))")
    assert ended.stdout.strip() == str({"testbed": testbed.__version__, "numpy": version("numpy")}), ended.stderr


@pytest.mark.slow
def test_what_trains_is_imported_without_the_packages_of_pages(bare):
    ended = run(bare, "-c", "import testbed.study, testbed.cli.app, testbed.study.tune, scripts.training_bench.step")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_study_ends_with_its_verdict_and_says_what_its_page_needs(bare, tiny_toml, tmp_path):
    folder = tmp_path / "study"
    ended = run(bare, "-m", "testbed", "run", tiny_toml, "--out", folder, "--workers", "1")
    assert "the page needs the package" in ended.stderr + ended.stdout
    assert ended.returncode == 2
    assert json.loads((folder / "verdict.json").read_text())
    forecast = json.loads((folder / "forecast.json").read_text())
    assert forecast["versions"]["testbed"] == testbed.__version__
    for record in folder.glob("runs/**/provenance.jsonl"):
        assert json.loads(record.read_text())["versions"]["testbed"] == testbed.__version__
    packed = run(bare, "-m", "testbed", "pack", folder, "-o", tmp_path / "study.zip")
    assert packed.returncode == 0, packed.stderr
