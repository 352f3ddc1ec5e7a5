"""testbed data shows what a configuration's data hold; a corpus that has changed ends a command before a run starts."""

import json

import numpy as np
import pytest

from testbed.config import Data
from testbed.errors import DataError
from testbed.study import Study
from testbed.training.data import open_source
from testbed.training.data.description import describe
from testbed.training.store import SweepFolder
from tests.helpers.command_line import command
from tests.helpers.sweeps import Quiet, fresh
from tests.helpers.word_texts import prose


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for index in range(40):
        (folder / f"{index}.txt").write_text(prose(4000, index))
    (folder / "copy.txt").write_text(prose(4000, 3).upper())
    (folder / ".draft").write_text("no")
    return folder


def test_the_command_shows_the_data_before_anything_is_trained(corpus, tiny_toml, tmp_path):
    changes = ["--set", f"data.source=text:{corpus}", "--set", "data.repeat=true"]
    shown = command("data", tiny_toml, *changes, cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    for words in (
        f"text:{corpus}",
        "text: 41 files, 41 documents, 164,000 bytes",
        "1 document of these repeat another one but for white space, case or punctuation",
        "left out: 1 hidden files",
        "for validation 64 windows of 32 (2,048 tokens scored)",
        "entropy of single tokens ",
        f"sample: '{prose(4000, 0)[:20]}",
    ):
        assert words in shown.stdout
    found = json.loads(command("data", tiny_toml, *changes, "--json", cwd=tmp_path).stdout)
    assert found["inventory"]["copies"] == 1
    assert 2 < found["unigram_entropy"] < 3.5
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_the_entropy_of_single_tokens_is_that_of_their_frequencies(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"")
    np.save(tmp_path / "a.npy", np.random.default_rng(0).choice(3, 50_000, p=[0.5, 0.25, 0.25]))
    shown = describe(open_source(Data(source=f"text:{tmp_path}/a.npy", seq_len=16, val_windows=8)))
    assert shown.unigram_entropy == pytest.approx(1.5 * np.log(2), abs=0.01)
    assert shown.as_json()["facts"]["tokenizer"] == "ids"


def test_endless_data_are_described_too(tiny_source):
    lines = "\n".join(describe(tiny_source).sentences())
    assert "for training without end" in lines
    assert "true entropy" in lines


@pytest.mark.slow
def test_a_changed_corpus_is_one_error_and_marks_no_run(corpus, tiny_toml, tmp_path):
    changes = (f"data.source=text:{corpus}", "data.repeat=true", "grid.widths=[8]", "forecast.laws=['hoffmann']")
    study = Study(fresh(tiny_toml, tmp_path / "sweep", *changes))
    before = (corpus / "7.txt").read_text()
    (corpus / "7.txt").write_text(prose(4000, 700))
    failed = study.folder.run(study.grid[0])
    for retry in (False, True):
        with pytest.raises(
            DataError, match=r"not those that .* was planned with .*restore the data .*No run was started"
        ):
            study.train("grid", Quiet(), retry_failed=retry)
        failed.fail("no disk", "")
    assert failed.failure().reason == "no disk"
    failed.forget_failure()
    (corpus / "7.txt").unlink()
    ended = command("train", study.folder.path)
    assert (ended.returncode, ended.stderr.count("error:")) == (2, 1)
    assert command("data", study.folder.path).returncode == 0
    assert {study.folder.run(spec).state() for spec in study.grid} == {"to do"}
    (corpus / "7.txt").write_text(before)
    open_source(study.folder.config.data)


def test_a_folder_of_the_first_format_keeps_its_windows(corpus, tiny_toml, tmp_path):
    changes = (f"data.source=text:{corpus}", "data.repeat=true", "data.rules=1")
    old = fresh(tiny_toml, tmp_path / "sweep", *changes)
    plan = json.loads((old.path / "plan.json").read_text())
    assert plan["format"] == 1
    again = Study.create(old.config.under(2), old.path).folder
    assert again.config.data.rules == 1
    assert [spec.run_id for spec in again.specs] == [spec.run_id for spec in old.specs]
    new = fresh(tiny_toml, tmp_path / "new", *changes[:-1])
    assert new.specs[0].data.fingerprint != old.specs[0].data.fingerprint
    assert SweepFolder.open(tmp_path / "new").config.data.rules == 2
