"""Conditions on rows: what they keep, and what is told where they make no sense."""

import operator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import TableError
from testbed.points import filter_rows
from testbed.points.expressions import columns_of, computed, parse, quoted
from testbed.points.expressions.tree import WORDS

TABLE = pd.DataFrame(
    {
        "n": [1e8, 2e8, 4e8, 8e8, np.nan],
        "tokens": [2_000_000_000, 8_000_000_000, 8_000_000_000, 16_000_000_000, 1],
        "loss": [3.0, 2.5, 2.25, 2.0, 1.9],
        "optimizer": ["adamw", "lion", "adam w", None, "it's"],
        "final": [True, True, False, True, False],
        "size": ["100M", "200M", "400M", "800M", None],
        "val loss": [1, 2, 3, 4, 5],
        "seed": [2**60, 2**60 + 1, 2**60 + 2, 3, 4],
        "in": [1, 2, 3, 4, 5],
    }
)


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("n > 2e8", [2, 3]),
        ("n>=2e8 and loss<2.4", [2, 3]),
        ("n == 200_000_000", [1]),
        ("n == .2e9", [1]),
        ("n == 200M", [1]),
        ("n > 1", [0, 1, 2, 3]),
        ("n != 1e8", [1, 2, 3, 4]),
        ("not n == 1e8", [1, 2, 3, 4]),
        ("not n < 4e8", [2, 3, 4]),
        ("n is null", [4]),
        ("n is not null and optimizer is not null", [0, 1, 2]),
        ("1e8 < n <= 4e8", [1, 2]),
        ("4e8 >= n > 1e8 != 5", [1, 2]),
        ("tokens / n >= 20 and tokens / n < 40", [0, 2, 3]),
        ("n * 2 + tokens > 9e9 - 3", [3]),
        ("-n + 5e8 > 0", [0, 1, 2]),
        ("2 ** -1 * n == 1e8", [1]),
        ("-2 ** 2 == -4 and n == 1e8", [0]),
        ("2 ** 3 ** 2 == 512 and n == 1e8", [0]),
        ("8 / 4 / 2 - 1 - 1 == -1 and n == 1e8", [0]),
        ("log10(n) == 8", [0]),
        ("LOG2(2 ** 3) == 3 and log(exp(loss)) == loss and n == 1e8", [0]),
        ("min(n, 3e8, tokens / 10) == 3e8", [2, 3]),
        ("max(`val loss`, 4) == 5 and sqrt(seed) == 2", [4]),
        ('optimizer == "lion"', [1]),
        ("optimizer == 'lion'", [1]),
        ('optimizer == "it\'s"', [4]),
        ("optimizer != 'lion'", [0, 2, 3, 4]),
        ("optimizer in ('lion', 'adamw',)", [0, 1]),
        ("optimizer in ['adam w']", [2]),
        ("optimizer not in ('lion', 'adamw')", [2, 3, 4]),
        ("tokens in (8e9, 1)", [1, 2, 4]),
        ("-loss in (-3, +2, -2.5)", [0, 1]),
        ("size > 200M", [2, 3]),
        ("size == '200M'", [1]),
        ("size in (1e8, 400M)", [0, 2]),
        ("final", [0, 1, 3]),
        ("not final", [2, 4]),
        ("final == false", [2, 4]),
        ("final in (true)", [0, 1, 3]),
        ("(n > 2e8) == final", [3, 4]),
        ("`val loss` == 2", [1]),
        ("`in` in (1, 2)", [0, 1]),
        ("seed == 1152921504606846977", [1]),
        ("seed in (1152921504606846977, 3)", [1, 3]),
        ("seed > 99999999999999999999 or n == 1e8", [0]),
        ("loss < 2 or n > 1 and n < 2e8", [0, 4]),
        ("(loss < 2 or n > 1) and n < 2e8", [0]),
        ("  NOT ( n Is Null )  AND final == TRUE", [0, 1, 3]),
        ("1 < 2", [0, 1, 2, 3, 4]),
        ("loss / 0 > 1", [0, 1, 2, 3, 4]),
        ("0 * n is null", [4]),
        ("9 ** 9 ** 9 ** 9 > n", [0, 1, 2, 3]),
        ("10 ** 400 == 2 ** 100000 and n == 1e8", [0]),
        (" or ".join(f"tokens == {i}" for i in range(3000)), [4]),
        (f"tokens {'+ 1 ' * 3000}< 3002", [4]),
        (f"{'not ' * 3000}n == 1e8", [0]),
        (f"{'-' * 3000}n == 1e8", [0]),
        (f"optimizer in ({', '.join(repr(str(i)) for i in range(3000))}, 'lion')", [1]),
        ("(" * 40 + "n == 1e8" + ")" * 40, [0]),
    ],
)  # fmt: skip
def test_the_rows_that_are_kept(expression, rows):
    assert filter_rows(TABLE, expression, "t").index.tolist() == rows


@pytest.mark.parametrize(
    ("expression", "character", "problem"),
    [
        ("", 1, "found the end; accepted: a column, a number"),
        ("n", 1, "found a number; accepted: a condition, such as tokens > 1e9"),
        ("optimizer", 1, "found a text; accepted: a condition"),
        ("n >", 4, "found the end; accepted: a column"),
        ("n > 1e8 and", 12, "found the end"),
        ("n > 1e8 n", 9, "found 'n'; accepted: and, or, a comparison, or the end"),
        ("n = 3", 3, "found '=' (write ==)"),
        ("n > 1 & n < 2", 7, "found '&' (write and)"),
        ("n > 1 || n < 2", 7, "found '||' (write or)"),
        ("!final", 1, "found '!' (write not)"),
        ("n <> 1", 3, "found '<>' (write !=)"),
        ("n ^ 2 > 1", 3, "found '^' (write **)"),
        ("n > @limit", 5, "found '@'; accepted"),
        ("n.max() > 1", 2, "found '.max'; accepted"),
        ("max(n) > 1", 1, "found max of one value; accepted: max(x, y, …), row by row"),
        ("ln(n) > 1", 3, "found '(' (ln is no function; there are log, log2, log10, exp, sqrt, min, max); accepted: and, or"),
        ("log(n, 2) > 1", 6, "found ','; accepted: a closing parenthesis"),
        ("log(optimizer) > 1", 5, "found texts, such as 'adamw' in row 1"),
        ("log(n > 1) > 1", 7, "found '>'; accepted: a closing parenthesis"),
        ("__import__('os') == 1", 11, "found '('"),
        ("lambda: 1", 7, "found ':'"),
        ("n.__class__ == 1", 2, "found '.__class__'; accepted"),
        ("().__class__ > n", 3, "found '.__class__'; accepted"),
        ("[n for n in (1, 2)] > 0", 1, "found '['; accepted: a column"),
        ("n[0] > 1", 2, "found '['; accepted: and, or"),
        ("f'{n}' > 1", 2, "found '{n}'; accepted: and, or"),
        ("n if final else 1", 3, "found 'if'; accepted: and, or"),
        ("(n := 3) > 1", 4, "found ':'"),
        ("(not " * 10_000 + "final" + ")" * 10_000, 202, "parentheses nested deeper than 40"),
        ("nn > 1", 1, "no column nn; the table has n, tokens, loss, optimizer"),
        ("N > 1", 1, "no column N"),
        ("n == null", 6, "found null; write COLUMN is null"),
        ("n is 3", 6, "found '3'; accepted: null"),
        ("n not 3", 7, "found '3'; accepted: in"),
        ("n in 3", 6, "found '3'; accepted: a list"),
        ("n in ()", 7, "found ')'; accepted: a number, a text in quotes, true or false"),
        ("n in (1 2)", 9, "found '2'; accepted: a comma or )"),
        ("n in (1, 2", 11, "found the end; accepted: a comma or )"),
        ("n in (1, tokens)", 10, "found 'tokens'; accepted: a number"),
        ("n in (null)", 7, "found null"),
        ("n in (-'a')", 8, "found 'a' after -; accepted: a number"),
        ("(n > 1", 7, "found the end; accepted: a closing parenthesis"),
        ("n > 1)", 6, "found ')'"),
        ("n > 'a", 5, "found ' without another '"),
        ("`n > 1", 1, "found ` without another `"),
        ("n > 1.5x", 5, "found '1.5x'"),
        ("n > 1.2.3", 5, "found '1.2.3'"),
        ("n > 0.0001k", 5, "found 0.0001k; a count is a whole number"),
        ("n > 1e999", 5, "the number is too large"),
        ("n == 'a'", 6, "found a text; accepted: a number"),
        ("'a' == n", 1, "found a text; accepted: a number"),
        ("optimizer == 3", 1, "found texts, such as 'adamw' in row 1; accepted: a column of numbers"),
        ("optimizer in ('a', 3)", 1, "found texts"),
        ("n in ('a')", 7, "a number cannot be compared with a text"),
        ("optimizer < 'b'", 13, "found < before a text; accepted: == and !="),
        ("final == 1", 10, "true or false cannot be compared with a number"),
        ("final > false", 9, "found > before true or false"),
        ("optimizer + 1 > 2", 1, "found texts"),
        ("final * 2 == 2", 1, "found true or false; accepted: a number"),
        ("(n > 1) + 1 > 2", 2, "found true or false"),
        ("n and final", 1, "found a number; accepted: a condition"),
        ("not n", 5, "found a number; accepted: a condition"),
        ("n > 1 < final", 9, "a number cannot be compared with true or false"),
        ("(" * 10_000 + "n > 1" + ")" * 10_000, 42, "parentheses nested deeper than 40"),
        ("n " + "** 2 " * 10_000 + "> 1", 206, "parentheses nested deeper than 40"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told_with_its_place(expression, character, problem):
    with pytest.raises(TableError) as caught:
        filter_rows(TABLE, expression, "t.csv")
    told = str(caught.value)
    assert told.startswith("t.csv: in the expression ")
    assert f"character {character}: {problem}" in told
    assert len(told) < 300


def test_a_condition_that_keeps_no_row_is_an_error():
    with pytest.raises(TableError, match=r"t: none of the 5 rows has n > 1e12; widen the condition"):
        filter_rows(TABLE, "n > 1e12", "t")


def test_columns_of_one_name_and_columns_that_are_no_values():
    table = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(TableError, match="2 columns a; the table has a, a"):
        filter_rows(table, "a > 1", "t")
    dated = pd.DataFrame({"day": pd.to_datetime(["2024-01-01", None])})
    with pytest.raises(TableError, match=r"column day holds datetime64.*; accepted: numbers, texts, true and false"):
        filter_rows(dated, "day == '2024-01-01'", "t")
    assert filter_rows(dated, "day is null", "t").index.tolist() == [1]


@pytest.mark.parametrize("dtype", ["boolean", "bool[pyarrow]", "object"])
def test_missing_truths_are_neither(dtype):
    table = pd.DataFrame({"final": pd.Series([True, False, None], dtype=dtype)})
    assert filter_rows(table, "final", "t").index.tolist() == [0]
    assert filter_rows(table, "final == false", "t").index.tolist() == [1]
    assert filter_rows(table, "final != true", "t").index.tolist() == [1, 2]


@pytest.mark.parametrize("dtype", ["str", "category", "string[pyarrow]", "object"])
def test_texts_of_every_dtype(dtype):
    table = pd.DataFrame({"a": pd.Series(["x", "y", None], dtype=dtype), "b": pd.Series(["x", "x", None], dtype=dtype)})
    assert filter_rows(table, "a == 'x'", "t").index.tolist() == [0]
    assert filter_rows(table, "a == b", "t").index.tolist() == [0]
    assert filter_rows(table, "a != b", "t").index.tolist() == [1, 2]


@pytest.mark.parametrize("dtype", ["Int64", "int64[pyarrow]", "float32", "uint16", "category"])
def test_numbers_of_every_dtype(dtype):
    table = pd.DataFrame({"a": pd.Series([1, 2, 3], dtype=dtype)})
    assert filter_rows(table, "1 < a and a != 3", "t").index.tolist() == [1]


def test_rows_keep_their_labels_and_types():
    kept = filter_rows(TABLE, "n > 1e8", "t")
    assert kept.dtypes.tolist() == TABLE.dtypes.tolist()
    pd.testing.assert_frame_equal(kept, TABLE.iloc[1:4])


names = st.text(st.characters(exclude_characters="`", exclude_categories=("Cs",)), min_size=1, max_size=8)


@given(names | st.sampled_from(sorted(WORDS)))
def test_any_column_can_be_written(name):
    assert columns_of(parse(f"{quoted(name)} > 1", "t")) == (name,)


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("n1 ()<>=+-*/.,'`\"&andornotisullin", max_size=60))
def test_no_text_ends_in_anything_but_rows_or_its_error(text):
    try:
        assert 0 < len(filter_rows(TABLE, text, "t")) <= len(TABLE)
    except TableError as error:
        assert str(error).startswith("t: ")


def numbers(depth=3):
    """(text, value) of arithmetic over the columns a, b, c, written with every parenthesis."""
    leaf = st.sampled_from(["a", "b", "c"]).map(lambda name: (name, FRAME[name].to_numpy())) | st.integers(0, 9).map(
        lambda value: (str(value), np.full(len(FRAME), float(value)))
    )
    if depth == 0:
        return leaf
    part, signs = numbers(depth - 1), st.sampled_from(sorted(ARITHMETIC))
    combined = st.tuples(part, signs, part).map(
        lambda t: (f"({t[0][0]} {t[1]} {t[2][0]})", ARITHMETIC[t[1]](t[0][1], t[2][1]))
    )
    return leaf | combined


def conditions(depth=3):
    """(text, value) of conditions over the columns a, b, c."""
    compared = st.tuples(numbers(1), st.sampled_from(sorted(COMPARED)), numbers(1)).map(
        lambda t: (f"{t[0][0]} {t[1]} {t[2][0]}", COMPARED[t[1]](t[0][1], t[2][1]))
    )
    missing = numbers(1).map(lambda t: (f"{t[0]} is null", np.isnan(t[1])))
    member = st.tuples(numbers(0), st.lists(st.integers(0, 9), min_size=1)).map(
        lambda t: (f"{t[0][0]} in ({', '.join(map(str, t[1]))})", np.isin(t[0][1], t[1]))
    )
    leaf = compared | missing | member
    if depth == 0:
        return leaf
    part = conditions(depth - 1)
    both = st.tuples(part, st.sampled_from(["and", "or"]), part).map(
        lambda t: (f"({t[0][0]} {t[1]} {t[2][0]})", LOGICAL[t[1]](t[0][1], t[2][1]))
    )
    return leaf | both | part.map(lambda t: (f"not ({t[0]})", ~t[1]))


FRAME = pd.DataFrame(
    {
        "a": [0.0, 1, 2, 3, 5, np.nan, 7.5, -1],
        "b": [1.0, 1, 0, -3, 5, 2, np.nan, 2],
        "c": [9.0, 4, 2, 2, 1, 0, 3, np.inf],
    }
)
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
COMPARED = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
LOGICAL = {"and": np.logical_and, "or": np.logical_or}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(deadline=None)
@given(st.data())
@pytest.mark.slow
def test_conditions_are_numpys(data):
    text, kept = data.draw(conditions())
    if kept.any():
        assert filter_rows(FRAME, text, "t").index.tolist() == np.flatnonzero(kept).tolist()
    else:
        with pytest.raises(TableError, match="none of the 8 rows"):
            filter_rows(FRAME, text, "t")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(deadline=None)
@given(st.data())
def test_arithmetic_is_numpys(data):
    text, value = data.draw(numbers())
    np.testing.assert_array_equal(computed(FRAME, text, "t"), value)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*ARITHMETIC, "**"]), st.sampled_from("abc123")), min_size=1, max_size=6))
def test_signs_bind_as_in_python(pairs):
    text = "a" + "".join(f" {sign} {part}" for sign, part in pairs)
    # numpy's numbers: a tower of Python's own does not fit into a float, and is an error there
    numbers = {f"n{digit}": np.float64(digit) for digit in "123"}
    named = "".join(f"n{sign}" if sign.isdigit() else sign for sign in text)
    python = eval(named, {name: FRAME[name].to_numpy() for name in "abc"} | numbers | {"__builtins__": {}})
    np.testing.assert_array_equal(computed(FRAME, text, "t"), python)
