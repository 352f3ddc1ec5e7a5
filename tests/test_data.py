import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.config import Data, HuggingFace, Zipf
from testbed.errors import ConfigError, DataError
from testbed.training.data import BlockReader, open_source
from testbed.training.data.first_rules import near_duplicates
from testbed.training.data.order import shuffled
from testbed.training.data.tokenizers import BpeTokenizer, train_bpe
from tests.helpers.corpora import text_data
from tests.helpers.word_texts import prose

# --- order ------------------------------------------------------------------------------------


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**40))
@settings(deadline=None)
def test_the_order_is_a_permutation_and_any_element_is_had_alone(n, seed):
    whole = shuffled(np.arange(n), n, seed)
    assert np.array_equal(np.sort(whole), np.arange(n))
    some = np.arange(0, n, 7)
    assert np.array_equal(shuffled(some, n, seed), whole[some])


def test_seeds_give_unrelated_orders_without_runs():
    n = 50_000
    first, second = shuffled(np.arange(n), n, 0), shuffled(np.arange(n), n, 1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.02
    assert (np.diff(first) == 1).sum() < 10


# --- the synthetic language -------------------------------------------------------------------

ZIPF = Data(source="synthetic:zipf", seq_len=32, zipf=Zipf(vocab_size=8, successors=(2, 2), mass=(0.6, 0.4)))


def test_the_entropy_is_that_of_the_next_token_given_its_context():
    source = open_source(ZIPF)
    windows = source.rows(3, 0, 40_000)
    context = windows[:, 10].astype(int) * 8 + windows[:, 11]
    total = 0.0
    for value in np.unique(context):
        chosen = windows[context == value, 12]
        p = np.bincount(chosen, minlength=8) / len(chosen)
        total += len(chosen) / len(windows) * -(p[p > 0] * np.log(p[p > 0])).sum()
    assert total == pytest.approx(source.facts.entropy, rel=5e-3)
    assert source.facts.first_scored == 1


def test_every_context_has_the_same_entropy_and_disjoint_successors():
    source = open_source(ZIPF)
    table = source.successors.reshape(-1, source.n_slots)
    assert all(len(set(row)) == source.n_slots for row in table)


@given(start=st.integers(0, 10**9), count=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_synthetic_rows_are_random_access(start, count, seed):
    source = open_source(ZIPF)
    rows = source.rows(seed, start, count)
    assert rows.shape == (count, 33)
    assert np.array_equal(source.rows(seed, start + count // 2, 1)[0], rows[count // 2])
    assert rows.max() < 8


def test_synthetic_validation_is_frozen_and_apart_from_training():
    first, again = open_source(ZIPF), open_source(ZIPF)
    assert np.array_equal(first.validation(), again.validation())
    assert first.facts.fingerprint == again.facts.fingerprint
    training = {row.tobytes() for row in first.rows(0, 0, 5000)}
    assert not training & {row.tobytes() for row in first.validation()}
    other = open_source(ZIPF.model_copy(update={"zipf": ZIPF.zipf.model_copy(update={"seed": 5})}))
    assert other.facts.fingerprint != first.facts.fingerprint


def test_blocks_are_the_rows_of_their_steps():
    source = open_source(ZIPF)
    read = BlockReader(source, 4, rows_per_step=3, block_steps=5)
    for step in (0, 1, 4, 5, 17, 2):
        assert np.array_equal(read(step), source.rows(4, 3 * step, 3))


# --- text -------------------------------------------------------------------------------------


def test_a_text_source_is_a_function_of_seed_and_row(text_folder):
    source, again = open_source(text_data(text_folder)), open_source(text_data(text_folder))
    assert source.facts == again.facts
    assert np.array_equal(source.rows(1, 100, 50), again.rows(1, 100, 50))
    assert np.array_equal(source.rows(1, 120, 5), source.rows(1, 100, 50)[20:25])
    assert not np.array_equal(source.rows(1, 0, 50), source.rows(2, 0, 50))


def test_an_epoch_shows_every_window_once_and_the_next_another_order(text_folder):
    source = open_source(text_data(text_folder, seq_len=256))
    n = source.facts.train_tokens // 256
    first = [row.tobytes() for row in source.rows(0, 0, n)]
    second = [row.tobytes() for row in source.rows(0, n, n)]
    assert sorted(first) == sorted(second)
    assert first != second
    assert first != [row.tobytes() for row in source.rows(2**32, 0, n)] != second
    assert [row.tobytes() for row in source.rows(0, n - 3, 6)] == first[-3:] + second[:3]


def test_windows_are_the_text_itself(text_folder):
    whole = b"\0".join(path.read_bytes() for path in sorted(text_folder.iterdir()))
    for row in open_source(text_data(text_folder)).rows(0, 0, 20):
        for piece in bytes(row.astype(np.uint8)).split(b"\0"):
            assert piece in whole


def test_under_the_first_rules_no_validation_window_nearly_repeats_the_training_text(text_folder):
    source = open_source(text_data(text_folder, rules=1))
    train = bytes(np.asarray(source._corpus.train).astype(np.uint8))
    for window in source.validation():
        pieces = [bytes(window[i : i + 32].astype(np.uint8)) for i in range(0, len(window) - 31, 4)]
        assert sum(piece in train for piece in pieces) < len(pieces) / 2


def test_near_duplicates_are_found_wherever_they_stand():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, 100_000).astype(np.uint16)
    copied, half, fresh = train[70_001:70_066].copy(), train[500:565].copy(), rng.integers(0, 256, 65).astype(np.uint16)
    half[40:] = rng.integers(0, 256, 25)  # 9 of its 34 shingles are left
    assert near_duplicates(train, np.stack([copied, half, fresh])).tolist() == [True, False, False]


def test_copies_of_a_document_stay_on_one_side_of_the_split(tmp_path):
    rng = np.random.default_rng(0)
    documents = ["".join(rng.choice(list("abcdefgh \n"), 2000)) for _ in range(100)]
    for index, document in enumerate(documents * 3):
        (tmp_path / f"{index}.txt").write_text(document)
    source = open_source(text_data(tmp_path, val_windows=32))
    assert len(source.validation()) == 32


@pytest.mark.slow
def test_bits_per_byte_of_bytes_and_bpe_have_the_bytes_of_the_text(text_folder):
    plain = open_source(text_data(text_folder)).facts
    assert plain.val_bytes == plain.val_tokens
    merged = open_source(text_data(text_folder, tokenizer="bpe", vocab_size=500)).facts
    assert merged.vocab_size == 500
    assert 1.3 < merged.val_bytes / merged.val_tokens < 4


def test_bpe_stands_for_its_bytes_and_is_trained_once(text_folder, tmp_path):
    documents = [path.read_bytes() for path in sorted(text_folder.iterdir())[:20]]
    train_bpe(documents[:5], 400, tmp_path / "tokenizer.json")
    tokenizer = BpeTokenizer(tmp_path / "tokenizer.json")
    lengths = tokenizer.byte_lengths()
    for document, ids in zip(documents, tokenizer.encode(documents), strict=True):
        assert lengths[ids].sum() == len(document)
        assert tokenizer._library.decode(ids.tolist()).encode() == document
    first = open_source(text_data(text_folder, tokenizer="bpe", vocab_size=500))
    written = (first._corpus.folder / "tokenizer.json").stat().st_mtime_ns
    again = open_source(text_data(text_folder, tokenizer="bpe", vocab_size=500))
    assert (again._corpus.folder / "tokenizer.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_vocabulary_beyond_16_bits_is_stored_in_32(tmp_path):
    words = ["".join(pair) for pair in itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=3)]
    rng = np.random.default_rng(0)
    for index in range(60):
        pairs = rng.integers(0, len(words), (1600, 2))
        (tmp_path / f"{index}.txt").write_text(" ".join(words[i] + words[j] for i, j in pairs))
    source = open_source(text_data(tmp_path, tokenizer="bpe", vocab_size=66_000, val_windows=8))
    assert source.rows(0, 0, 2).dtype == np.uint32
    assert source.facts.vocab_size == 66_000


def test_a_changed_text_is_prepared_anew(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(60):
        (tmp_path / f"{index}.txt").write_bytes(bytes(rng.integers(32, 127, 3000).astype(np.uint8)))
    before = open_source(text_data(tmp_path, val_windows=8)).facts
    (tmp_path / "0.txt").write_bytes(b"something else " * 200)
    assert open_source(text_data(tmp_path, val_windows=8)).facts.fingerprint != before.fingerprint


@pytest.mark.parametrize("streaming", [True, False])
def test_a_local_builder_of_datasets(tmp_path, text_folder, streaming, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    path = tmp_path / "rows.jsonl"
    with path.open("w") as rows:
        for file in sorted(text_folder.iterdir()):
            rows.write(json.dumps({"body": file.read_text()}) + "\n")
    options = HuggingFace(data_files=(str(path),), field="body", streaming=streaming)
    source = open_source(Data(source="hf:json", seq_len=64, val_windows=32, hf=options))
    direct = open_source(text_data(text_folder, val_windows=32))
    assert source.facts.source == "hf:json"
    assert abs(source.facts.train_tokens / direct.facts.train_tokens - 1) < 0.2
    wrong = options.model_copy(update={"field": "text"})
    with pytest.raises(DataError, match=r"row 0 has no field 'text'; set data\.hf\.field to one of 'body'"):
        open_source(Data(source="hf:json", seq_len=64, hf=wrong))


def test_a_dataset_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = HuggingFace(data_files=(str(tmp_path / "none.jsonl"),))
    with pytest.raises(DataError, match=r"hf:json: cannot be read .*check the name"):
        open_source(Data(source="hf:json", seq_len=64, hf=options))


# --- what cannot be read ----------------------------------------------------------------------


def test_a_missing_path_and_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(text_data(tmp_path / "none"))
    with pytest.raises(DataError, match="the folder holds no files"):
        open_source(text_data(tmp_path))


def test_a_file_that_is_not_utf8_is_named_with_its_byte(tmp_path):
    (tmp_path / "good.txt").write_text("good " * 1000)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 1000)
    with pytest.raises(DataError, match=r"latin\.txt: not UTF-8 at byte 3"):
        open_source(text_data(tmp_path))


def test_fewer_validation_windows_than_asked_for_are_said(text_folder, tmp_path):
    source = open_source(text_data(text_folder, val_windows=65536))
    found = len(source.validation())
    assert 500 < found < 65536
    assert f"validation: {found} windows of 64 tokens" in source.sentences()[-1]
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(DataError, match=r"found 5 bytes in 1 documents: too few .*give more text, or raise"):
        open_source(text_data(tmp_path))


def test_a_stripped_standard_library_is_told(tmp_path, monkeypatch):
    import sysconfig

    (tmp_path / "os.py").write_text("pass\n")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(DataError, match=r"found 0\.0 MB of source .*at least 10 MB are needed"):
        open_source(Data(source="text:stdlib", seq_len=64))


@pytest.mark.parametrize(
    "name", ["nothing", "text:", "web:x", "synthetic:markov", "no.such.module:Source", "json:Nothing"]
)
def test_unknown_sources_list_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"accepted|not agreed to run"):
        open_source(Data(source=name, seq_len=64))


def test_a_source_of_ones_own():
    source = open_source(Data(source="testbed.training.data.synthetic:ZipfSource", seq_len=32))
    assert source.facts.vocab_size == 32


def test_preparing_stops_after_the_tokens_asked_for(text_folder):
    whole, part = (
        open_source(text_data(text_folder)).facts,
        open_source(text_data(text_folder, max_tokens="2M", val_windows=8)).facts,
    )
    assert part.train_tokens < whole.train_tokens
    assert 2_000_000 <= part.train_tokens + 64 < 2_600_000


def test_a_stream_without_end_is_read_once_and_only_as_far_as_needed(tmp_path, monkeypatch):
    """Rows are made as they are read; all passes of the preparation together read each once."""
    read = []

    def rows():
        for number in itertools.count():
            read.append(number)
            yield {"text": prose(200, number)}

    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: rows())
    source = open_source(Data(source="hf:endless", seq_len=32, val_windows=8, max_tokens=60_000))
    assert 60_000 <= source.facts.train_tokens + 32 < 130_000
    assert read == list(range(len(read)))
    assert len(read) < 1500
    assert sorted(path.name for path in next(tmp_path.glob("corpus-*")).iterdir()) == [
        "meta.json",
        "train.bin",
        "val-cuts.npy",
        "val.bin",
    ]
