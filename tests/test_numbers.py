"""Only numbers get through to a fit, and what is none is told with its row."""

import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from testbed.errors import TableError
from testbed.points import fit_columns, map_columns, points_digest


def one_column(values, name="loss", **options):
    table = pd.DataFrame({name: pd.Series(values, dtype=object)})
    return fit_columns(table, {name: name}, "t", **options)[name].tolist()


@pytest.mark.parametrize(
    "value",
    [np.nan, np.inf, -np.inf, -1.0, 0.0, "n/a", None, "", "nan", "inf", "1,000", "7B", "0x10", "two", True, np.True_, pd.NA,
     pd.NaT, 1 + 2j, b"1", [1.0], pd.Timestamp("2024"), pd.Timedelta(1), 10**400, "1e999"],
)  # fmt: skip
def test_losses_that_are_none_are_told_with_their_row(value):
    with pytest.raises(
        TableError, match=r"t, row 2: loss is .*; accepted: a finite number above 0 \(1 such row\); drop or"
    ):
        one_column([2.0, value, 3.0])


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([True, False]),
        pd.Series([1 + 2j, 1 + 0j]),
        pd.to_datetime(pd.Series(["2024", "2025"])),
        pd.Series([True, None], dtype="boolean"),
        pd.Series([[1], [2]]),
    ],
)
def test_whole_columns_that_are_no_numbers(column):
    with pytest.raises(TableError, match=r"row 1: loss is .* \(2 such rows\)"):
        fit_columns(pd.DataFrame({"loss": column}), {"loss": "loss"}, "t")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (2**70, 2.0**70),
        (10**30, 1e30),
        ("1e9", 1e9),
        (" 12 ", 12.0),
        ("1_000", 1e3),
        (Decimal("2.5"), 2.5),
        (np.float32(0.5), 0.5),
    ],
)
def test_what_counts_as_a_number(value, number):
    assert one_column([1.0, value]) == [1.0, number]


def test_counts_may_have_their_unit():
    assert one_column(["7B", "410m", "1.3B", "12k", 5], "n") == [7e9, 4.1e8, 1.3e9, 1.2e4, 5.0]
    with pytest.raises(TableError, match=r"row 1: n is '7 billion'"):
        one_column(["7 billion"], "n")
    with pytest.raises(TableError, match=r"row 1: loss is '7B'"):
        one_column(["7B"], "loss")


@pytest.mark.parametrize(
    "dtype", ["Int64", "Float64", "int64[pyarrow]", "double[pyarrow]", "uint8", "float32", "category"]
)
def test_every_numeric_dtype_is_read(dtype):
    table = pd.DataFrame({"loss": pd.Series([2, 3], dtype=dtype)})
    assert fit_columns(table, {"loss": "loss"}, "t")["loss"].tolist() == [2.0, 3.0]


@pytest.mark.parametrize("dtype", ["Int64", "int64[pyarrow]", "category"])
def test_missing_values_of_every_dtype_are_told(dtype):
    table = pd.DataFrame({"loss": pd.Series([2, None], dtype=dtype)})
    with pytest.raises(TableError, match="row 2: loss is "):
        fit_columns(table, {"loss": "loss"}, "t")


def test_which_columns_must_be_above_zero():
    table = pd.DataFrame({"step": [0, 1], "reward": [-1.0, 2.0]})
    mapping = {"step": "step", "reward": "reward"}
    assert fit_columns(table, mapping, "t", positive=())["reward"].tolist() == [-1.0, 2.0]
    with pytest.raises(TableError, match="row 1: step is 0; accepted: a finite number above 0"):
        fit_columns(table, mapping, "t", positive=("step",))
    with pytest.raises(TableError, match=r"row 2: reward is inf; accepted: a finite number \(1 such row\)"):
        fit_columns(table.assign(reward=[1, np.inf]), mapping, "t", positive=("step",) * 0)


def test_computed_values_are_checked_too():
    table = pd.DataFrame({"n": [1.0, 0.0], "flops": [6.0, 6.0]})
    with pytest.raises(TableError, match=r"row 2: flops / \(6 \* n\) is inf; accepted: a finite number above 0"):
        fit_columns(table, map_columns(table, ("tokens",), {}, "t"), "t")
    with pytest.raises(
        TableError, match=r"in the expression 'flops \+ word', character 9: found texts, such as 'x' in row 1"
    ):
        fit_columns(table.assign(word=["x", "y"]), {"tokens": "flops + word"}, "t")


def test_rows_keep_their_numbers_in_a_part_of_a_table():
    table = pd.DataFrame({"loss": [1.0, 2.0, 3.0, -4.0]})
    with pytest.raises(TableError, match="row 4: loss is -4"):
        fit_columns(table[table["loss"] != 2], {"loss": "loss"}, "t")
    with pytest.raises(TableError, match="row 1: loss is -4"):
        fit_columns(table.set_axis(["a", "b", "c", "d"])[::-1], {"loss": "loss"}, "t")


def test_runs_are_named_in_every_row_or_are_the_rows():
    table = pd.DataFrame({"loss": [1.0, 2.0], "run_name": ["a", None]})
    with pytest.raises(TableError, match=r"row 2: run_name is .*; accepted: a name in every row"):
        fit_columns(table, map_columns(table, ("loss",), {}, "t"), "t")
    assert fit_columns(table, {"loss": "loss"}, "t")["run"].tolist() == ["0", "1"]
    assert fit_columns(table.assign(model=[7, 8]), {"loss": "loss", "run": "model"}, "t")["run"].tolist() == ["7", "8"]


def test_duplicate_rows_are_kept():
    table = pd.DataFrame({"loss": [2.0, 2.0], "run": ["a", "a"]})
    assert len(fit_columns(table, map_columns(table, ("loss",), {}, "t"), "t")) == 2


@pytest.mark.slow
def test_a_million_rows_are_quick():
    rows = 1_000_000
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"N": rng.integers(1, 2**62, rows), "D": rng.random(rows) + 1, "loss": rng.random(rows) + 1})
    table["run"] = [f"r{i % 1000}" for i in range(rows)]
    start = time.process_time()
    points = fit_columns(table, map_columns(table, ("n", "tokens", "loss"), {}, "t"), "t")
    clean = time.process_time() - start
    points_digest(points)
    assert clean < 5
    assert time.process_time() - start < 20
