"""Folders and files of a newer testbed are refused with one sentence; those without a number are of the first format.

The number of an archive is tested in test_archive, that of a saved fit in test_fit.
"""

import json
import re

import pytest

from testbed.errors import FolderError, SealError
from testbed.files import write_json
from testbed.records import Forecast, as_json
from testbed.training.data import open_source
from testbed.training.store import SweepFolder
from tests.helpers.command_line import command
from tests.helpers.corpora import text_data
from tests.helpers.known_ids import SEALED
from tests.helpers.sweeps import fresh
from tests.helpers.word_texts import prose

NEWER = "found format {}, this version of testbed reads up to format {}: update testbed"


@pytest.fixture
def sweep(tiny_toml, tmp_path):
    return fresh(tiny_toml, tmp_path / "sweep")


def change(path, **changes):
    tree = json.loads(path.read_text()) | changes
    path.chmod(0o644)
    write_json(path, {name: value for name, value in tree.items() if value is not None})


def test_a_sweep_without_a_number_is_of_the_first_format_and_stays_so(sweep):
    plan = sweep.path / "plan.json"
    assert json.loads(plan.read_text())["format"] == 2
    change(plan, format=None)
    opened = SweepFolder.open(sweep.path)
    assert opened.config.data.rules == 1
    assert opened.specs == sweep.specs
    again = sweep.specs[0].model_copy(update={"lr": 0.001})
    assert opened.extended((again,)).specs == (*sweep.specs, again)
    assert json.loads(plan.read_text())["format"] == 1


def test_a_newer_sweep_is_refused_whatever_else_it_holds(sweep):
    plan, config = sweep.path / "plan.json", sweep.path / "config.toml"
    change(plan, format=3)
    with pytest.raises(FolderError, match=re.escape(f"{plan}: {NEWER.format(3, 2)}")):
        SweepFolder.open(sweep.path)
    change(plan, runs={"x": {"a key of later": 1}})
    config.write_text(config.read_text() + "\n[later]\nkey = 1\n")
    with pytest.raises(FolderError, match=re.escape(f"{plan}: {NEWER.format(3, 2)}")):
        SweepFolder.open(sweep.path)


def test_the_command_says_so_in_one_sentence(sweep):
    change(sweep.path / "plan.json", format=3)
    ended = command("status", sweep.path)
    assert ended.returncode == 2
    assert NEWER.format(3, 2) in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


def test_a_newer_forecast_is_refused_and_one_without_a_number_is_judged(sweep):
    forecast = Forecast.model_validate_json(json.dumps(SEALED)).sealed()
    sweep.seal(forecast)
    assert json.loads(sweep.forecast_path.read_text())["format"] == 1
    change(sweep.forecast_path, format=None)
    assert sweep.forecast() == forecast
    for further in ({}, {"a key of later": 1}):
        change(sweep.forecast_path, format=2, **further)
        with pytest.raises(SealError, match=re.escape(f"{sweep.forecast_path}: {NEWER.format(2, 1)}")):
            sweep.forecast()


def test_a_number_cannot_be_changed_without_breaking_the_seal():
    forecast = Forecast.model_validate_json(json.dumps(SEALED)).sealed()
    assert forecast.model_copy(update={"format": 2}).computed_digest() != forecast.digest
    assert "format" not in forecast.identity()
    assert as_json(forecast)["format"] == 1


def test_the_first_rules_give_the_tokens_and_windows_of_the_first_release(tmp_path):
    """The fingerprint is the one that the first release gave to these files."""
    for index in range(120):
        (tmp_path / f"{index:03d}.txt").write_text(prose(1500, index))
    (tmp_path / "long.txt").write_text(prose(600_000, 1000))
    facts = open_source(text_data(tmp_path, rules=1)).facts
    assert facts.fingerprint == "ffadc888b3c44e9dc15fb7cd639d2cd5796270abeedc77ba745f9ae2fdba43f1"
    assert open_source(text_data(tmp_path)).facts.fingerprint != facts.fingerprint
