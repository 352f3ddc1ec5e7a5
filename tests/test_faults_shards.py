"""Prepared tokens that were damaged or swapped: noticed at opening, and prepared again or told in one error."""

import json
import logging
import shutil

import numpy as np
import pytest

from testbed.config import Data, HuggingFace
from testbed.errors import DataError
from testbed.training.data import open_source
from tests.helpers.corpora import text_data
from tests.helpers.damage import empty, flip, truncate


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(tmp_path, text_folder):
    """A folder of text of some 300 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    for path in sorted(text_folder.iterdir())[:60]:
        shutil.copy(path, folder)
    return folder


def remove(path):
    path.unlink()


def same(first, again):
    assert again.facts == first.facts
    assert np.array_equal(again.tokens, first.tokens)
    assert np.array_equal(again.validation(), first.validation())


WINDOWS = ("windows-64-16.npy", "windows-64-16.json")  # of the first rules


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "meta.json", "val-cuts.npy", *WINDOWS])
@pytest.mark.parametrize("damage", [truncate, flip, empty, remove])
def test_what_was_damaged_is_prepared_again(small, cache, caplog, name, damage):
    config = text_data(small, val_windows=16, rules=1 if name in WINDOWS else 2)
    first = open_source(config)
    tokens = np.array(first.tokens)
    (folder,) = cache.iterdir()
    damage(folder / name)
    with caplog.at_level(logging.WARNING):
        again = open_source(config)
    assert np.array_equal(again.tokens, tokens)
    assert again.facts == first.facts
    if (name, damage) != ("windows-64-16.json", remove):
        (record,) = caplog.records
        assert str(folder) in record.getMessage()
        assert "again" in record.getMessage()
    caplog.clear()
    same(again, open_source(config))
    assert not caplog.records
    assert [path.name for path in cache.iterdir()] == [folder.name]


@pytest.mark.slow
def test_a_damaged_tokenizer_is_trained_again(small, cache, caplog):
    config = text_data(small, val_windows=16, tokenizer="bpe", vocab_size=300)
    first = open_source(config)
    (folder,) = cache.iterdir()
    flip(folder / "tokenizer.json")
    same(first, open_source(config))
    assert "tokenizer.json: damaged or foreign" in caplog.text


@pytest.mark.slow
def test_a_foreign_shard_is_noticed(small, cache, caplog, text_folder):
    config, other = text_data(small, val_windows=16), text_data(text_folder, val_windows=16)
    first = open_source(config)
    tokens = np.array(first.tokens)
    (mine,) = cache.iterdir()
    open_source(other)
    (theirs,) = set(cache.iterdir()) - {mine}
    shutil.copy(theirs / "train.bin", mine / "train.bin")
    again = open_source(config)
    assert np.array_equal(again.tokens, tokens)
    assert "train.bin: damaged or foreign" in caplog.text


def test_where_the_source_cannot_be_read_again_there_is_one_error(tmp_path, cache):
    pytest.importorskip("datasets")
    source = tmp_path / "rows"
    source.mkdir()
    (source / "rows.jsonl").write_text(
        "\n".join(json.dumps({"text": f"row {i} of {i * i}\n" * 40}) for i in range(400))
    )
    options = HuggingFace(data_files=(f"{source}/*.jsonl",))
    config = Data(source="hf:json", seq_len=64, val_windows=16, hf=options)
    open_source(config)
    (folder,) = cache.glob("corpus-*")
    flip(folder / "train.bin")
    shutil.rmtree(source)
    with pytest.raises(
        DataError, match=r"train\.bin: damaged .*, and they cannot be prepared again: hf:json: cannot be read"
    ):
        open_source(config)
