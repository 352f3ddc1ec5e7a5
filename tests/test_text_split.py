"""The split of a text: its share, its unit, copies on one side, near copies, and windows that are a fair sample."""

import random

import numpy as np
import pytest

from testbed.config import Data
from testbed.errors import DataError
from testbed.training.data import open_source
from testbed.training.data.near_copies import near_copies
from testbed.training.data.split import Piece, cut, lot_of, survey
from tests.helpers.corpora import text_data
from tests.helpers.word_texts import prose, words


def sides(source):
    """The bytes of both sides."""
    return tuple(bytes(np.asarray(tokens).astype(np.uint8)) for tokens in (source._corpus.train, source._corpus.val))


# --- small texts, one file ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1_100_000, 100_000, 30_000])
def test_one_small_file_is_split_by_blocks(tmp_path, size):
    path = tmp_path / "play.txt"
    path.write_text(prose(size, 1))
    source = open_source(Data(source=f"text:{path}", seq_len=64))
    train, val = sides(source)
    assert len(val) / (len(train) + len(val)) == pytest.approx(0.05, abs=0.02)
    assert source.inventory.block == 512
    assert len(source.validation()) < 1024  # of data.val_windows
    assert "not the 1024 of data.val_windows" in source.sentences()[-1]


def test_a_line_without_an_end_is_split_all_the_same(tmp_path):
    path = tmp_path / "genome.txt"
    path.write_text("".join(random.Random(3).choices("ACGT", k=400_000)))
    val = sides(open_source(Data(source=f"text:{path}", seq_len=64, val_windows=64)))[1]
    assert len(val) == pytest.approx(20_000, rel=0.05)


def test_the_share_is_the_one_asked_for(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(prose(300_000, 2))
    for share in (0.02, 0.1, 0.3):
        train, val = sides(open_source(Data(source=f"text:{path}", seq_len=32, val_windows=8, val_share=share)))
        assert len(val) / (len(train) + len(val)) == pytest.approx(share, rel=0.1)


def test_a_text_of_one_line_is_told_what_lacks(tmp_path):
    (tmp_path / "a.txt").write_text("a haiku is short\n")
    with pytest.raises(DataError, match=r"found 17 bytes in 1 documents: too few .*raise data\.val_share"):
        open_source(text_data(tmp_path))
    (tmp_path / "a.txt").write_text(prose(60_000, 4))
    with pytest.raises(DataError, match=r"has 2 windows of 2048 tokens, a validation takes 8; give more text, raise"):
        open_source(text_data(tmp_path, seq_len=2048))


def test_windows_stand_in_one_place_of_the_text(tmp_path):
    """A validation window is text as it stands in the file; a training window has an end where something was taken out."""
    content = prose(600_000, 5).encode()
    (tmp_path / "a.txt").write_bytes(content)
    source = open_source(text_data(tmp_path))
    for window in source.validation():
        assert bytes(window.astype(np.uint8)) in content
    for window in source.rows(0, 0, 400):
        assert all(part in content for part in bytes(window.astype(np.uint8)).split(b"\0"))


# --- the unit of the split ----------------------------------------------------------------------


def test_many_documents_are_units_and_few_are_cut():
    many = [prose(300, seed).encode() for seed in range(4000)]
    few = many[:100]
    assert survey(lambda: iter(many), 0.05, 512).block is None
    split = survey(lambda: iter(few), 0.05, 512)
    assert split.block == 512
    pieces = list(cut(few, split.block))
    assert b"".join(piece.content for piece in pieces) == b"".join(few)
    assert sum(piece.first for piece in pieces) == sum(piece.last for piece in pieces) == 100


def test_held_out_text_comes_from_everywhere(tmp_path):
    """A text whose second half is in other words: a fair sample has half of it in each."""
    (tmp_path / "a.txt").write_text(prose(500_000, 6) + prose(500_000, 7).upper())
    _, val = sides(open_source(text_data(tmp_path)))
    upper = sum(65 <= byte <= 90 for byte in val) / sum(chr(byte).isalpha() for byte in val)
    assert upper == pytest.approx(0.5, abs=0.03)


def test_blocks_of_a_copy_are_cut_alike_wherever_it_stands():
    text = prose(20_000, 8).encode()
    first = {piece.lot for piece in cut([text], 512)}
    again = {piece.lot for piece in cut([prose(700, 9).encode() + b"\n" + text], 512)}
    assert len(first & again) / len(first) > 0.8


# --- copies -------------------------------------------------------------------------------------

CHANGES = {
    "a line end": lambda text: text + "\n",
    "line ends of Windows": lambda text: text.replace("\n", "\r\n"),
    "trailing blanks": lambda text: text.replace("\n", "  \n"),
    "case": str.upper,
    "a full stop": lambda text: text.rstrip(".") + " ...",
    "a blank that is no ASCII": lambda text: text.replace(" ", "\u00a0"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("size", [25, 400])
def test_copies_but_for_white_space_and_case_are_on_one_side(tmp_path, change, size):
    texts = [prose(size, seed) for seed in range(3000)]
    (tmp_path / "a.txt").write_text("<|endoftext|>\n".join(texts + list(map(change, texts))))
    source = open_source(text_data(tmp_path, seq_len=8, val_windows=8))
    train, val = ({lot_of(document) for document in side.split(b"\0") if document} for side in sides(source))
    assert len(val) == pytest.approx(0.05 * 3000, rel=0.2)
    assert not train & val
    assert source.inventory.copies >= 3000 * 0.99


def test_a_text_that_is_repeated_very_often_is_for_training(tmp_path):
    often = prose(200, 1)
    (tmp_path / "a.txt").write_text("<|endoftext|>\n".join([often] * 5000 + [prose(200, s) for s in range(2, 4000)]))
    train, val = sides(open_source(text_data(tmp_path)))
    assert often.encode() not in val
    assert len(val) / (len(train) + len(val)) == pytest.approx(0.05, rel=0.1)


def pieces(train, val):
    parts = [("train", text) for text in train] + [("val", text) for text in val]
    return lambda: [(side, Piece(text.encode(), lot_of(text.encode()), True, True)) for side, text in parts]


def test_near_copies_of_one_document_are_found_and_nothing_else():
    train = [prose(2000, seed) for seed in range(60)]
    edited = train[7].replace("ba", "bo", 12)
    extract = train[9][300:1500]
    half_new = train[11][:700] + prose(1300, 500)
    fresh = prose(2000, 501)
    found = near_copies(pieces(train, [edited, extract, half_new, fresh]))
    assert found == {lot_of(edited.encode()), lot_of(extract.encode())}


FORM = "The undersigned hereby declares that the goods named below were received complete and without visible damage. "


@pytest.mark.parametrize("kind", ["template", "form", "licence", "sequence", "moves"])
def test_text_that_is_likely_is_no_copy(kind):
    """Chance and custom repeat runs in many documents: such text stays in the validation."""
    names = words(40)

    def document(seed):
        rng = random.Random(seed)
        if kind == "template":
            return "".join(
                f"One day {rng.choice(names)} met {rng.choice(names)} and was very glad. " for _ in range(60)
            )
        if kind == "form":
            return (
                FORM + f"Name: {rng.choice(names)} {rng.choice(names)}. Number: {rng.randrange(10**6)}. " + FORM[::-1]
            )
        if kind == "licence":
            return FORM * 4 + prose(900, seed)
        if kind == "sequence":
            return "".join(rng.choices("ACGT", k=1500))
        return " ".join(
            f"{n}. {rng.choice('abcdefgh')}{rng.randint(1, 8)} {rng.choice('NBRQ')}f6" for n in range(1, 80)
        )

    texts = [document(seed) for seed in range(400)]
    assert not near_copies(pieces(texts[:380], texts[380:]))


def test_the_share_that_was_dropped_is_said_with_a_sample(tmp_path):
    texts = [prose(3000, seed) for seed in range(300)]
    near = [text.replace("fi", "fo", 20) for text in texts]
    (tmp_path / "a.txt").write_text("<|endoftext|>\n".join(texts + near))
    source = open_source(text_data(tmp_path))
    lines = "\n".join(source.sentences())
    assert source.dropped_share > 0.05
    assert "of the validation text was dropped as near copies of training documents" in lines
    assert "dropped, for example: " in lines


# --- short windows ------------------------------------------------------------------------------


@pytest.mark.parametrize("seq_len", [8, 16, 24, 30])
def test_short_windows_are_found_in_any_text(text_folder, seq_len):
    source = open_source(text_data(text_folder, seq_len=seq_len, val_windows=512))
    assert source.validation().shape == (512, seq_len + 1)
    assert source.dropped_share < 0.05


# --- separators ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("between", "key"),
    [
        ("\n<|endoftext|>\n", None),
        ("<|endoftext|>", None),
        ("\r\n<|endoftext|>\r\n", None),
        ("\n</s>\n", None),
        ("\n\n====\n\n", "===="),
        ("@@\n", "@@"),
    ],
)
def test_documents_end_at_the_separator_which_is_no_text(tmp_path, between, key):
    texts = [prose(200, seed) for seed in range(5000)]
    (tmp_path / "stories.txt").write_text(between.join(texts), newline="")
    keys = {} if key is None else {"separator": key}
    source = open_source(Data(source=f"text:{tmp_path}/stories.txt", seq_len=64, val_windows=64, **keys))
    train, val = sides(source)
    ends = train.count(b"\0") + val.count(b"\0")
    assert (ends, source.inventory.documents, source.inventory.block) == (5000, 5000, None)
    assert between.strip().encode() not in train + val
    assert val.count(b"\0") == pytest.approx(250, abs=10)
    assert any("no part of the text" in line for line in source.sentences())


def test_a_text_that_speaks_of_the_separator_is_not_divided(tmp_path):
    text = prose(200_000, 1) + '\nids = encode("<|endoftext|>")  # and `<|endoftext|>` again\n'
    (tmp_path / "a.py").write_text(text)
    assert open_source(text_data(tmp_path)).inventory.documents == 1
    (tmp_path / "a.py").write_text(prose(100_000, 1) + "\n<|endoftext|>\n" + prose(100_000, 2))
    assert open_source(text_data(tmp_path, separator="")).inventory.documents == 1
    assert open_source(text_data(tmp_path)).inventory.documents == 2


# --- a fair sample ------------------------------------------------------------------------------


def test_the_windows_are_as_difficult_as_all_held_out_text(text_folder):
    """By the frequencies of tokens two apart, which the choice does not look at."""
    source = open_source(text_data(text_folder, val_windows=128))
    val = np.asarray(source._corpus.val).astype(int)
    counts = np.ones((256, 256)) / 256 + np.bincount(val[:-2] * 256 + val[2:], minlength=65536).reshape(256, 256)
    surprise = -np.log(counts / counts.sum(axis=1, keepdims=True))
    whole = surprise[val[:-2], val[2:]].mean()
    windows = source.validation().astype(int)
    assert surprise[windows[:, :-2], windows[:, 2:]].mean() == pytest.approx(whole, rel=0.01)
    assert np.array_equal(windows, open_source(text_data(text_folder, val_windows=128)).validation())
