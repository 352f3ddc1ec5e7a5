"""Tables in and out of files: to the last bit, or one clear error."""

import gzip
import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import TableError
from testbed.points import annealed_only, points_digest, read_table, without_target, write_table


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_tables_come_back_to_the_bit(tmp_path, suffix):
    rng = np.random.default_rng(0)
    floats = np.exp(rng.normal(scale=30, size=2000))
    table = pd.DataFrame(
        {"run": [f'r{i} \u2028é, "q"' for i in range(2000)], "loss": floats, "step": np.arange(2000) * 2**50}
    )
    write_table(table, tmp_path / f"t{suffix}")
    back = read_table(tmp_path / f"t{suffix}")
    assert list(back.columns) == list(table.columns)
    assert back["loss"].to_numpy().tobytes() == floats.tobytes()
    assert back["step"].tolist() == table["step"].tolist()
    assert back["run"].tolist() == table["run"].tolist()


def test_missing_values_stay_missing_in_every_format(tmp_path):
    table = pd.DataFrame({"step": [1, 2], "loss": [2.5, np.nan], "phase": ["annealed", None]})
    for suffix in (".csv", ".tsv", ".parquet", ".jsonl"):
        write_table(table, tmp_path / f"t{suffix}")
        assert read_table(tmp_path / f"t{suffix}").isna().to_numpy().tolist() == [[False] * 3, [False, True, True]]


def test_compressed_text_is_read(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"N,D,loss\n1,2,3\n"))
    (tmp_path / "t.JSONL.GZ").write_bytes(gzip.compress(b'{"N": 1}\n'))
    assert read_table(tmp_path / "t.csv.gz").to_dict("list") == {"N": [1], "D": [2], "loss": [3]}
    assert read_table(str(tmp_path / "t.JSONL.GZ")).to_dict("list") == {"N": [1]}


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("byte order mark", b"\xef\xbb\xbfN,loss\n1,2.5\n", {"N": [1], "loss": [2.5]}),
        ("quoted numbers", b'"N","loss"\n"1e9","2.5"\n', {"N": [1e9], "loss": [2.5]}),
        ("windows lines", b"N,loss\r\n1,2.5\r\n", {"N": [1], "loss": [2.5]}),
        ("no last newline", b"N,loss\n1,2.5", {"N": [1], "loss": [2.5]}),
        ("trailing commas", b"N,loss\n1,2.5,\n3,4.5,\n", {"N": [1, 3], "loss": [2.5, 4.5]}),
        ("integers beyond 64 bits", b"N,loss\n36893488147419103232,2.5\n", {"N": [2**65], "loss": [2.5]}),
        ("a number that is cut to 17 digits", b"N,loss\n1,0.1000000000000000055\n", {"N": [1], "loss": [0.1]}),
    ],
)
def test_what_csv_may_hold(tmp_path, name, content, columns):
    (tmp_path / "t.csv").write_bytes(content)
    assert read_table(tmp_path / "t.csv").to_dict("list") == columns


def test_columns_of_one_name_keep_it(tmp_path):
    (tmp_path / "t.csv").write_text("loss,n,loss\n1,2,3\n")
    assert list(read_table(tmp_path / "t.csv").columns) == ["loss", "n", "loss"]


def test_json_lines_may_hold_nan_huge_integers_and_texts_of_digits(tmp_path):
    lines = ['{"run": "001", "N": 36893488147419103232, "loss": NaN}', "", '{"run": "002", "N": 5, "extra": 1}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    table = read_table(tmp_path / "t.jsonl")
    assert table["run"].tolist() == ["001", "002"]
    assert table["N"].tolist() == [2**65, 5]
    assert table["loss"].isna().all()
    assert table["extra"].isna().tolist() == [True, False]


def test_an_index_of_a_parquet_file_is_a_column(tmp_path):
    pd.DataFrame({"loss": [2.5, 2.0]}, index=pd.Index(["a", "b"], name="run")).to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").to_dict("list") == {"run": ["a", "b"], "loss": [2.5, 2.0]}


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.doc", b"", r"found suffix '\.doc'; accepted: \.csv, \.tsv, \.parquet, \.jsonl, .*\.xlsx, and all but"),
        ("t", b"a\n1\n", "found suffix ''; accepted"),
        ("t.gz", b"", r"found suffix '\.gz'; accepted"),
        ("t.parquet.gz", b"", r"found suffix '\.parquet\.gz'"),
        ("t.csv", b"", "cannot be read as csv"),
        ("t.csv", b"\n\n", "cannot be read as csv"),
        ("t.csv", b"a,b\n", "the table has no rows"),
        ("t.csv", b"a,b\n\xff,1\n", "not UTF-8 at byte 4; save the table as UTF-8"),
        ("t.csv", "a,b\n1,2\n".encode("utf-16"), "not UTF-8 at byte 0"),
        ("t.csv", b"a,b\n1,2\n3,4,5\n", "Expected 2 fields in line 3, saw 3"),
        ("t.csv", b"a,b\n1,2,3\n4,5,6\n", "the rows have more fields than the header; name every column"),
        ("t.csv", b'a,b\n1,"2\n', "cannot be read as csv .*EOF inside string"),
        ("t.csv.gz", b"a,b\n1,2\n", "cannot be read as csv .*[Nn]ot a gzipped file"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "cannot be read as csv"),
        ("t.parquet", b"not parquet", "cannot be read as parquet"),
        ("t.jsonl", b"{", "cannot be read as jsonl .line 1: "),
        ("t.jsonl", b'{"a": 1}\n[1, 2]\n', "line 2 holds .1, 2.; accepted: an object"),
        ("t.jsonl", b'{"a": ' + b"[" * 100_000, "cannot be read as jsonl"),
        ("t.jsonl", b"\n\n", "the table has no rows"),
        ("t.jsonl", b'{"a": "\xff"}', "not UTF-8 at byte 7"),
    ],
)
def test_files_that_are_no_table(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=match):
        read_table(tmp_path / name)
    with pytest.raises(TableError, match=r"no such file|found suffix"):
        read_table(tmp_path / f"none{name}")


def test_folders_and_files_one_may_not_read(tmp_path, monkeypatch):
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(TableError, match=r"t\.csv: cannot be read as csv \(Is a directory\)"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "u.csv").write_text("a\n1\n")
    (tmp_path / "u.csv").chmod(0)
    try:
        table = read_table(tmp_path / "u.csv")
    except TableError as error:
        assert "cannot be read as csv (Permission denied)" in str(error)
    else:  # whoever runs the tests may read everything
        assert table.to_dict("list") == {"a": [1]}


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200) | st.text("a1,\"'\n\t.eN-{}:[]", max_size=80).map(str.encode))
def test_no_content_ends_in_anything_but_a_table_or_its_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("hostile")
    valid = folder / "valid.parquet"
    write_table(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), valid)
    whole = valid.read_bytes()
    at = len(content) * 37 % len(whole)
    for suffix in (".csv", ".tsv", ".parquet", ".jsonl", ".csv.gz"):
        path = folder / f"t{suffix}"
        path.write_bytes(whole[:at] + content + whole[at + len(content) :] if suffix == ".parquet" else content)
        try:
            assert len(read_table(path)) > 0
        except TableError as error:
            assert str(error).startswith(str(path))


def test_thousands_of_columns(tmp_path):
    names = [f"c{i}" for i in range(5000)]
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    assert read_table(tmp_path / "t.csv").shape == (1, 5000)


def test_a_table_into_an_unknown_format(tmp_path):
    with pytest.raises(TableError, match=r"found suffix '\.xlsx'; accepted: \.csv, \.tsv, \.parquet, \.jsonl"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "t.xlsx")
    assert not list(tmp_path.iterdir())


def test_json_lines_are_json(tmp_path):
    write_table(pd.DataFrame({"n": [1, 2], "phase": ["a", None]}), tmp_path / "t.jsonl")
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"n": 1, "phase": "a"}, {"n": 2, "phase": None}]


def test_only_annealed_rows_are_kept_and_their_absence_is_told():
    table = pd.DataFrame({"phase": ["stable", "annealed"], "loss": [3.0, 2.0]})
    assert annealed_only(table, "t")["loss"].tolist() == [2.0]
    assert len(annealed_only(table.drop(columns="phase"), "t")) == 2
    assert len(annealed_only(table.assign(phase=["hot", "cooldown_end"]), "t")) == 2
    with pytest.raises(TableError, match=r"no row with phase annealed \(found stable\)"):
        annealed_only(table.head(1), "t")


def test_targets_are_left_out_where_there_are_roles():
    table = pd.DataFrame({"role": ["grid", "target"], "loss": [3.0, 2.0]})
    assert without_target(table, "t")["loss"].tolist() == [3.0]
    assert len(without_target(table.drop(columns="role"), "t")) == 2


POINTS = pd.DataFrame({"n": [1.0, 2e9], "tokens": [3.0, 1 / 3], "loss": [2.5, 2.25], "run": ["a", "b"]})


def test_the_digest_is_of_the_fitted_numbers_in_any_order():
    assert (
        points_digest(POINTS)
        == points_digest(POINTS.iloc[::-1])
        == points_digest(POINTS[["run", "n", "loss", "tokens"]])
    )
    assert points_digest(POINTS) != points_digest(POINTS.assign(loss=[2.5, 2.25 + 1e-15]))
    lines = b"a,1.0,3.0,2.5\nb,2000000000.0,0.3333333333333333,2.25"  # as in forecasts that were sealed before
    assert points_digest(POINTS) == hashlib.sha256(lines).hexdigest()


def test_the_digest_covers_every_column():
    more = POINTS.assign(unique_tokens=[1.0, 2.0])
    digests = {
        points_digest(POINTS),
        points_digest(more),
        points_digest(more.assign(unique_tokens=[1.0, 3.0])),
        points_digest(more.rename(columns={"unique_tokens": "flops"})),
        points_digest(more.assign(run=["b", "a"])),
        points_digest(POINTS.drop(columns="n")),
    }
    assert len(digests) == 6
    assert points_digest(more) == points_digest(more.iloc[::-1, ::-1])
    assert points_digest(more.assign(run=["a', 1.0", "b"])) != points_digest(more.assign(run=["a", "b"]))
