import numpy as np
import pandas as pd
import pytest

from testbed.errors import TableError
from testbed.points import annealed_only, fit_columns, map_columns, points_digest, read_table, write_table

from .conftest import planted_points


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_tables_come_back_to_the_bit(tmp_path, suffix):
    table = planted_points("hoffmann", noise=0.01)
    write_table(table, tmp_path / f"t{suffix}")
    back = read_table(tmp_path / f"t{suffix}")
    assert list(back.columns) == list(table.columns)
    for column in table.columns:
        if table[column].dtype == float:
            np.testing.assert_allclose(
                back[column].to_numpy(float), table[column].to_numpy(), rtol=1e-15 if suffix != ".jsonl" else 1e-14
            )
        else:
            assert list(back[column]) == list(table[column])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("n_params", "n_tokens", "loss"), {"n": "n_params", "tokens": "n_tokens", "loss": "loss"}),
        (("N", "D", "val_loss"), {"n": "N", "tokens": "D", "loss": "val_loss"}),
        (
            ("n_params_total", "n_params_non_embedding", "tokens", "loss", "run"),
            {"n": "n_params_non_embedding", "tokens": "tokens", "loss": "loss", "run": "run"},
        ),
    ],
)
def test_usual_names_are_mapped(names, expected):
    assert map_columns(pd.DataFrame(columns=list(names)), ("n", "tokens", "loss"), {}, "t") == expected


def test_a_column_that_is_not_there_is_told_with_those_that_are():
    table = pd.DataFrame(columns=["N", "D", "accuracy"])
    with pytest.raises(
        TableError,
        match=r"t\.csv: no column for loss \(looked for loss, val_loss.*the table has N, D, accuracy; name one with --loss",
    ):
        map_columns(table, ("n", "tokens", "loss"), {}, "t.csv")
    with pytest.raises(TableError, match=r"no column for n \(looked for size\)"):
        map_columns(table, ("n", "tokens", "loss"), {"n": "size"}, "t.csv")


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0, "n/a", None])
def test_losses_that_are_none_are_told_with_their_row(value):
    table = pd.DataFrame({"N": [1.0, 2.0], "D": [1.0, 2.0], "loss": pd.Series([2.0, value], dtype=object)})
    with pytest.raises(TableError, match=r"t, row 2: loss is .*; accepted: a finite number above 0 \(1 such row\)"):
        fit_columns(table, map_columns(table, ("n", "tokens", "loss"), {}, "t"), "t")


def test_integers_beyond_64_bits_are_numbers():
    table = pd.DataFrame({"N": pd.Series([2**70, 10], dtype=object), "D": [1.0, 2.0], "loss": [2.0, 3.0]})
    assert fit_columns(table, map_columns(table, ("n", "tokens", "loss"), {}, "t"), "t")["n"].tolist() == [
        2.0**70,
        10.0,
    ]


def test_only_annealed_rows_are_kept_and_their_absence_is_told():
    table = pd.DataFrame({"phase": ["stable", "annealed"], "loss": [3.0, 2.0]})
    assert annealed_only(table, "t")["loss"].tolist() == [2.0]
    assert len(annealed_only(table.drop(columns="phase"), "t")) == 2
    with pytest.raises(TableError, match=r"no row with phase annealed \(found stable\)"):
        annealed_only(table.head(1), "t")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.xlsx", b"", "found suffix '.xlsx'; accepted: .csv"),
        ("t.csv", b"", "cannot be read as csv"),
        ("t.csv", b"a,b\n", "the table has no rows"),
        ("t.csv", b"a,b\n\xff,1\n", "not UTF-8 at byte"),
        ("t.parquet", b"not parquet", "cannot be read as parquet"),
        ("t.jsonl", b"{", "cannot be read as jsonl"),
    ],
)
def test_files_that_are_no_table(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=match):
        read_table(tmp_path / name)
    with pytest.raises(TableError, match=r"no such file|found suffix"):
        read_table(tmp_path / f"none{name}")


def test_the_digest_is_of_the_fitted_numbers_in_any_order():
    points = pd.DataFrame({"n": [1.0, 2.0], "tokens": [3.0, 4.0], "loss": [2.5, 2.25], "run": ["a", "b"]})
    assert points_digest(points) == points_digest(points.iloc[::-1])
    assert points_digest(points) != points_digest(points.assign(loss=[2.5, 2.25 + 1e-15]))
