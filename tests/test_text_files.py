"""A folder is read whole or says what it left out; containers, compressed files and shards of tokens; bad documents."""

import bz2
import csv
import gzip
import json
import lzma
import os

import numpy as np
import pandas as pd
import pytest

from testbed.config import Data
from testbed.errors import DataError
from testbed.training.data import open_source
from tests.helpers.corpora import text_data
from tests.helpers.word_texts import prose

TEXTS = [prose(400, seed) for seed in range(60)]


def documents(source):
    """All documents of a source of bytes, in no order."""
    both = b"".join(bytes(np.asarray(t).astype(np.uint8)) for t in (source._corpus.train, source._corpus.val))
    return sorted(both.replace(b"\0", b"").decode())


def same_text(source, texts=TEXTS):
    return documents(source) == sorted("".join(texts))


def opened(path, **keys):
    return open_source(Data(source=f"text:{path}", seq_len=16, val_windows=8, **keys))


# --- containers ---------------------------------------------------------------------------------


def lines(rows):
    return "\n".join(map(json.dumps, rows))


def rows(field="text", **further):
    return [{"id": i, field: text, **further} for i, text in enumerate(TEXTS)]


CONTAINERS = {
    "a.jsonl": lines(rows()),
    "b.jsonl": lines(rows("content", url="https://example.org")),
    "c.ndjson": lines(TEXTS),
    "d.json": json.dumps(rows("body")),
    "e.json": json.dumps({"data": rows("Text"), "version": 2}),
    "f.json": json.dumps({"text": TEXTS, "id": list(range(60))}),
    "g.json": lines(rows("story")),
    "h.jsonl": lines([{"score": 0.5, "passage": text} for text in TEXTS]),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_rows_are_read_as_documents(tmp_path, name):
    (tmp_path / name).write_text(CONTAINERS[name])
    for source in (opened(tmp_path), opened(tmp_path / name)):
        assert source.inventory.documents == 60
        assert same_text(source)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_text(tmp_path, separator):
    path = tmp_path / ("a.tsv" if separator == "\t" else "a.csv")
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([["id", "text"], *([str(i), f'"{text}"'] for i, text in enumerate(TEXTS))])
    assert same_text(opened(path), [f'"{text}"' for text in TEXTS])


def test_parquet(tmp_path):
    pd.DataFrame({"n": range(60), "content": TEXTS}).to_parquet(tmp_path / "a.parquet")
    source = opened(tmp_path)
    assert same_text(source)
    assert any("the text is the field 'content', beside n" in line for line in source.sentences())


@pytest.mark.parametrize("pack", [gzip, bz2, lzma, "zstd"], ids=["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("inner", ["jsonl", "txt"])
def test_compressed_files(tmp_path, pack, inner):
    content = (lines(rows()) if inner == "jsonl" else "<|endoftext|>\n".join(TEXTS)).encode()
    if pack == "zstd":
        import pyarrow

        with pyarrow.output_stream(str(tmp_path / f"a.{inner}.zst"), compression="zstd") as file:
            file.write(content)
    else:
        ending = {gzip: "gz", bz2: "bz2", lzma: "xz"}[pack]
        (tmp_path / f"a.{inner}.{ending}").write_bytes(pack.compress(content))
    assert opened(tmp_path).inventory.documents == 60


def test_a_file_that_was_cut_off_is_one_error(tmp_path):
    whole = gzip.compress(lines(rows()).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: cannot be read .*; repair or remove it"):
        opened(tmp_path)


def test_which_field_is_the_text_is_asked_and_can_be_said(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines([{"prompt": "short", "reply": text} for text in TEXTS]))
    with pytest.raises(
        DataError, match=r"line 1: which field is the text\? Found 'prompt', 'reply'; set data\.text_field"
    ):
        opened(tmp_path)
    assert same_text(opened(tmp_path, text_field="reply"))
    with pytest.raises(DataError, match=r"no field 'answer' \(data\.text_field\); set data\.text_field to one of"):
        opened(tmp_path, text_field="answer")


def test_a_card_beside_the_text_is_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(rows()))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"license": "none", "citation": "nobody"}))
    source = opened(tmp_path)
    assert same_text(source)
    assert any("1 JSON files without a field that is known as text" in line for line in source.sentences())


# --- folders ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for index, text in enumerate(TEXTS):
        (tmp_path / "corpus" / str(index % 3)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "corpus" / str(index % 3) / f"{index}.txt").write_text(text)
    return tmp_path / "corpus"


def test_links_are_followed_and_loops_end(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.txt").write_text(prose(500, 99))
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "0" / "up").symlink_to(tmp_path)
    (folder / "nothing.txt").symlink_to(tmp_path / "gone.txt")
    source = opened(folder)
    assert same_text(source, [*TEXTS, prose(500, 99)])
    left_out = source.inventory.left_out
    assert left_out["links to a folder that is read already"].count >= 1
    assert left_out["links to nothing"].count == 1


def test_what_is_no_text_is_counted(folder):
    (folder / ".hidden.txt").write_text("secret")
    (folder / ".git").mkdir()
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "paper.pdf").write_bytes(b"%PDF-1.7 and no zero")
    os.mkfifo(folder / "pipe")
    source = opened(folder)
    assert same_text(source)
    assert {reason: each.count for reason, each in source.inventory.left_out.items()} == {
        "hidden files": 1,
        "hidden folders": 1,
        "binary files": 2,
        "pipes and devices": 1,
    }
    assert sum("left out" in line for line in source.sentences()) == 4


def test_one_binary_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\x7fELF" + bytes(1000))
    with pytest.raises(DataError, match=r"a\.txt: a binary file; give UTF-8 text, JSON lines"):
        opened(tmp_path / "a.txt")


def test_marks_of_other_encodings_are_read(tmp_path):
    text = prose(30_000, 1) + "Ärger über Öl"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "a.txt").write_bytes(text.encode(encoding))
        assert same_text(opened(tmp_path / "a.txt"), [text]), encoding


def test_a_pattern_names_files(folder):
    assert opened(f"{folder}/*/1*.txt").inventory.files == 11


# --- documents that cannot be read --------------------------------------------------------------


def test_a_bad_row_among_many_is_skipped_and_counted(tmp_path):
    texts = [prose(60, seed) for seed in range(600)]
    content = [json.dumps({"text": None if i == 77 else text}) for i, text in enumerate(texts)]
    content[300] = '{"text": "cut o'
    content[400] = json.dumps({"id": 400})
    (tmp_path / "a.jsonl").write_text("\n".join(content))
    source = opened(tmp_path)
    assert (source.inventory.documents, source.inventory.bad.count) == (597, 3)
    assert any(
        "3 documents that cannot be read (the first: " in line and "line 78" in line for line in source.sentences()
    )
    with pytest.raises(
        DataError, match=r"3 of 600 documents cannot be read, and data\.skip_bad = 2 allows fewer; .*line 78"
    ):
        opened(tmp_path, skip_bad=2)
    with pytest.raises(DataError, match=r"or pass over so many with data\.skip_bad = 3"):
        opened(tmp_path, skip_bad=0)


def test_a_file_in_another_encoding_can_be_passed_over(folder):
    (folder / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    with pytest.raises(DataError, match=r"latin\.txt: not UTF-8 at byte 3.* data\.skip_bad = 1 "):
        opened(folder)
    assert same_text(opened(folder, skip_bad=1))
    assert same_text(opened(folder, skip_bad=0.02))


# --- shards of token ids ------------------------------------------------------------------------


def ids(count, seed=0, most=50256):
    found = np.random.default_rng(seed).integers(0, most, count).astype(np.uint16)
    found[::700] = 50256
    return found


def llm_c(tokens):
    header = np.zeros(256, np.int32)
    header[:3] = 20240520, 1, len(tokens)
    return header.tobytes() + tokens.tobytes()


def test_shards_of_nanogpt_with_their_own_validation(tmp_path):
    (tmp_path / "train.bin").write_bytes(ids(200_000).tobytes())
    (tmp_path / "val.bin").write_bytes(ids(9_000, 1).tobytes())
    (tmp_path / "prepare.py").write_text("print('made by this')")
    source = opened(tmp_path)
    assert (source.facts.vocab_size, source.facts.tokenizer, source.facts.val_bytes) == (50257, "ids", None)
    assert np.array_equal(source._corpus.train, ids(200_000))
    assert np.array_equal(source._corpus.val, ids(9_000, 1))
    assert source.tokenizer is None


def test_shards_of_llm_c_are_split_and_checked(tmp_path):
    for index in range(3):
        (tmp_path / f"part_{index}.bin").write_bytes(llm_c(ids(700 * 200, index)))
    source = opened(tmp_path)
    train, val = source._corpus.train, source._corpus.val
    assert len(train) + len(val) == 3 * 700 * 200
    assert len(val) == pytest.approx(0.05 * 3 * 700 * 200, rel=0.1)
    (tmp_path / "part_1.bin").write_bytes(llm_c(ids(70_000))[:-10])
    with pytest.raises(DataError, match=r"part_1\.bin: its header says 70,000 tokens, found 69,995"):
        opened(tmp_path)


def test_arrays_of_numpy(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 66, 60_000))
    source = opened(tmp_path / "a.npy")
    assert source.facts.vocab_size == 66
    assert source.facts.train_tokens == pytest.approx(57_000, rel=0.01)


def test_tokens_cannot_be_tokenised_again(tmp_path):
    (tmp_path / "train.bin").write_bytes(ids(20_000).tobytes())
    with pytest.raises(DataError, match=r"tokenised already; take data\.tokenizer away"):
        open_source(text_data(tmp_path, tokenizer="bpe", vocab_size=500))


# --- keys that would do nothing -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"separator": "=====", "source": "text:{}"}, r"data\.separator = '=====' stands nowhere in the text"),
        ({"text_field": "body", "source": "text:{}"}, r"data\.text_field = 'body', but no file has fields"),
        ({"text_field": "body", "source": "hf:json"}, r"text_field is for a source \"text:PATH\""),
        ({"separator": "==", "source": "text:{}", "rules": 1}, r"rules = 1 knows no val_share, separator"),
        ({"val_share": 0.2, "source": "text:{}", "rules": 1}, r"rules = 1 knows no val_share, separator"),
    ],
)
def test_keys_without_effect_are_refused(folder, keys, reason):
    keys = keys | {"source": keys["source"].format(folder)}
    with pytest.raises((DataError, ValueError), match=reason):
        open_source(Data(seq_len=16, val_windows=8, **keys))
