"""Tables that no law was made for: a clear error, or a fit with the right doubt; never a crash or a silent wrong one."""

import gzip
import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.fit.comparison import compare
from testbed.analysis.laws import LAWS
from testbed.errors import TableError
from testbed.points import (
    annealed_only,
    filter_rows,
    fit_columns,
    map_columns,
    points_digest,
    read_table,
    without_target,
)
from tests.helpers.hostile import limited_command, mutated, refusal, result_or_none, snapshot, try_each
from tests.helpers.planted import PLANTED, noisy

TARGET = {"n": 1e10, "tokens": 1e12}


def table():
    return noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.004)


FITTED = {  # how the table differs from a good one, and a doubt that has to be raised
    "every row three times": (lambda t: pd.concat([t] * 3), "duplicates"),
    "one run": (lambda t: t.assign(run="only"), "few-runs"),
    "two runs": (lambda t: t.assign(run=np.where(t.index % 2, "a", "b")), "few-runs"),
    "the same loss everywhere": (lambda t: t.assign(loss=2.5), "unidentified"),
    "losses that rise with size": (lambda t: t.assign(loss=1 / t["loss"]), "unidentified"),
    "tokens in step with size": (lambda t: t.assign(tokens=20 * t["n"]), "unidentified"),
    "nothing but noise": (lambda t: t.assign(loss=np.random.default_rng(0).uniform(2, 3, len(t))), "unidentified"),
    "bits for nats": (lambda t: t.assign(loss=t["loss"] / 10), "unit"),
}


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.slow
def test_what_can_be_fitted_is_fitted_and_doubted_to_the_end_of_the_way(name):
    change, doubt = FITTED[name]
    changed = change(table())
    fit = fit_law("hoffmann", changed, n_boot=60)
    assert doubt in {finding.code for finding in fit.diagnostics(changed)}
    again = Fit.from_dict(json.loads(json.dumps(fit.to_dict(), allow_nan=False)))
    frame = again.get_prediction(TARGET).summary_frame()
    assert np.isfinite(frame.select_dtypes("number")).all(axis=None)
    assert frame["obs_ci_lower"][0] < frame["mean"][0] < frame["obs_ci_upper"][0]
    for method in ("percentile", "bca"):
        bounds = fit.conf_int(0.1, method)  # not numbers where too few of the resamples converged
        assert ((bounds["low"] <= bounds["high"]) | bounds.isna().all(axis=1)).all()
    assert compare(["hoffmann", "hoffmann_tied"], changed, target=TARGET, n_boot=40).to_dict()["laws"]


def test_the_order_of_rows_and_numbers_beyond_64_bits_change_nothing():
    whole = table()
    fit = fit_law("hoffmann", whole, n_boot=0)
    shuffled = fit_law("hoffmann", whole.sample(frac=1, random_state=1), n_boot=0)
    assert shuffled.theta == pytest.approx(fit.theta, rel=1e-8)
    huge = fit_law("hoffmann", whole.assign(n=[2**64 * int(n) for n in whole["n"]]), n_boot=0)
    assert huge.theta["alpha"] == pytest.approx(fit.theta["alpha"], rel=1e-6)
    assert huge.theta["A"] == pytest.approx(fit.theta["A"] * 2.0 ** (64 * fit.theta["alpha"]), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, -1.5, np.nan, np.inf, "n/a", True, None])
@pytest.mark.parametrize("column", ["n", "tokens", "loss"])
def test_what_is_no_number_above_zero_is_told_with_its_row(column, value):
    broken = table().astype({column: object})
    broken.loc[7, column] = value
    with pytest.raises(TableError, match=rf"row 8: {column} is .*; accepted: a finite number above 0"):
        fit_law("hoffmann", broken)


@pytest.mark.parametrize("column", ["n", "tokens"])
def test_a_column_that_stands_still_is_told(column):
    with pytest.raises(TableError, match=f"{column} is 1e\\+09 in every row"):
        fit_law("hoffmann", table().assign(**{column: 1e9}))


ROWS = pd.DataFrame(
    {
        "run": [f"r{i}" for i in range(9)],
        "n": [1e6, 1e6, 1e6, 1e7, 1e7, 1e7, 1e8, 1e8, 1e8],
        "tokens": [1e9, 2e9, 4e9] * 3,
        "loss": np.linspace(3.5, 2.5, 9),
        "phase": "annealed",
        "role": "grid",
    }
)


def packed(kind, frame=ROWS):
    """The table's bytes in one of the formats."""
    buffer = io.BytesIO()
    if kind == "parquet":
        frame.to_parquet(buffer, index=False)
    elif kind == "jsonl":
        frame.to_json(buffer, orient="records", lines=True)
    else:
        frame.to_csv(buffer, index=False, sep="\t" if kind == "tsv" else ",")
    return buffer.getvalue()


KINDS = {kind: packed(kind) for kind in ("csv", "tsv", "jsonl", "parquet")}


def used(path, expression=None):
    """Everything that a fit does with a file before it fits."""
    raw = read_table(path)
    raw = raw if expression is None else filter_rows(raw, expression, str(path))
    raw = annealed_only(without_target(raw, str(path)), str(path))
    columns = map_columns(raw, ("n", "tokens", "loss"), {}, str(path))
    return points_digest(fit_columns(raw, columns, str(path)))


def tried(tmp_path, name, content, expression=None):
    path = tmp_path / name
    path.write_bytes(content)
    return result_or_none(lambda: used(path, expression), path)


def test_mutated_tables(tmp_path):
    tables = st.sampled_from(sorted(KINDS)).flatmap(lambda kind: st.tuples(st.just(f"t.{kind}"), mutated(KINDS[kind])))
    ends = try_each(lambda table: tried(tmp_path, *table), tables)
    assert ends["accepted"]
    assert ends["refused"]


def test_mutated_compressed_tables(tmp_path):
    names = st.sampled_from(["t.csv.gz", "t.jsonl.gz", "t.csv", "t.tsv.gz"])
    contents = mutated(gzip.compress(KINDS["csv"], mtime=0))
    assert try_each(lambda name, content: tried(tmp_path, name, content), names, contents)["refused"]


CELLS = (
    *("=cmd|' /C calc'!A0", "@SUM(1)", "1+2j", "1e999", "7B", "9" * 400, "", "-inf", "NaN", "0x10", "1,000", "\ud800"),
    *("<script>", "../../x", "\0", '"', "'"),
)
NAMES = (
    *(
        "run",
        "n",
        "N",
        "tokens",
        "D",
        "loss",
        "phase",
        "role",
        "flops",
        "epochs",
        "unique_tokens",
        "Loss",
        "",
        "and",
        "null",
    ),
    *("<script>alert(1)</script>", "../../x", "a`b", "\x1b]0;x\x07", "lo\nss", "n\0", "x" * 3000),
)
WORDS = (
    *(
        "n",
        "tokens",
        "loss",
        "run",
        "`n`",
        "and",
        "or",
        "not",
        "in",
        "is",
        "null",
        "true",
        "(",
        ")",
        "[",
        ",",
        "<",
        "==",
    ),
    *("**", "-", "+", "*", "/", "1", "1e9", "7B", "9e999", "'a'", '"', "`", "0" * 5000, "9" * 400, ";", "\\", "@"),
    *("__import__('os')", "loss.__class__"),
)
cells = st.one_of(
    st.floats(),
    st.floats(1e-3, 1e12),
    st.integers(-(10**330), 10**330),
    st.text(max_size=12),
    st.none(),
    st.booleans(),
    st.sampled_from(CELLS),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
names = st.one_of(st.sampled_from(NAMES), st.text(max_size=10))
rows = st.lists(st.lists(cells, max_size=7), max_size=5)


def test_tables_of_any_cells_and_names(tmp_path):
    def read(columns, rows, kind):
        if kind == "csv":
            lines = [",".join(map(str, row)) for row in [columns, *rows]]
            content = "\n".join(lines).encode("utf-8", errors="surrogatepass")
        else:
            content = "\n".join(json.dumps(dict(zip(columns, row, strict=False))) for row in rows).encode()
        return tried(tmp_path, f"t.{kind}", content)

    assert try_each(read, st.lists(names, max_size=7), rows, st.sampled_from(["csv", "jsonl"]))["refused"]


LONG_EXPRESSIONS = (
    "(" * 5000 + "n" + ")" * 5000,
    "-" * 100_000 + "n > 1",
    "not " * 20_000 + "n > 1",
    "9**9**9**9**9**9**9 > n",
    "n" + "**9" * 5000 + " > 1",
    " or ".join(["n > 1"] * 3000),
    "n in (" + ",".join(["1"] * 20_000) + ")",
    "1" * 50_000 + " " * 50_000 + "z < n",
)


def test_any_expression(tmp_path):
    expressions = st.one_of(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), st.text(max_size=40))
    ends = try_each(
        lambda expression: tried(tmp_path, "t.csv", KINDS["csv"], expression),
        expressions,
        examples=[(expression,) for expression in LONG_EXPRESSIONS],
    )
    assert ends["accepted"]
    assert ends["refused"]


def wide(columns):
    return ",".join(f"c{i}" for i in range(columns)) + "\n" + ",".join(["1"] * columns)


def parquet_of_many(rows):
    """Few bytes that stand for many rows of one value."""
    return packed("parquet", pd.DataFrame({"loss": np.zeros(rows, np.int8)}))


SIZES = {
    "a gzip of 300 MB in 300 kB": (
        "t.csv.gz",
        lambda: gzip.compress(b"0" * 300_000_000, 1),
        "unpacks to more than 256 MB",
    ),
    "a gzip in a gzip": ("t.csv.gz", lambda: gzip.compress(gzip.compress(KINDS["csv"])), "not UTF-8"),
    "a parquet of 150 million rows": ("t.parquet", lambda: parquet_of_many(150_000_000), "at most 10,000 columns"),
    "20,000 columns": ("t.csv", lambda: wide(20_000).encode(), "at most 10,000 columns"),
    "a column a row": (
        "t.jsonl",
        lambda: b"\n".join(b'{"c%d": 1}' % i for i in range(20_000)),
        "at most 10,000 columns",
    ),
    "a cell of 5 MB": (
        "t.csv",
        lambda: b"n,tokens,loss\n" + b"9" * 5_000_000 + b",1,2",
        "9…'; accepted: a finite number",
    ),
    "a name of 5 MB": ("t.csv", lambda: b"x" * 5_000_000 + b",tokens,loss\n1,1,2", "no column for n"),
    "an object 100,000 deep": ("t.jsonl", lambda: b'{"n":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
    "an integer of 5,000 digits": ("t.jsonl", lambda: b'{"n":' + b"9" * 5000 + b"}", "4300 digits"),
    "an integer of 400 digits": (
        "t.jsonl",
        lambda: b'{"n":' + b"9" * 400 + b',"tokens":1,"loss":1}',
        "n is an enormous number",
    ),
    "one key twice": ("t.jsonl", lambda: b'{"n": 1, "n": 2}', "a key occurs twice"),
    "phases that are lists": ("t.jsonl", lambda: b'{"n":1,"tokens":1,"loss":1,"phase":[1]}', None),
    "two columns of phases": ("t.csv", lambda: b"n,tokens,loss,phase,phase\n1,1,1,annealed,stable", "2 columns phase"),
    "a folder": ("folder.csv", None, "Is a directory"),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_shapes_that_no_table_has(name, tmp_path):
    file, content, message = SIZES[name]
    path = tmp_path / file
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content())
    if message is None:
        assert used(path)
        return
    with pytest.raises(TableError) as caught:
        used(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 8000


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("t.csv.gz", gzip.compress(b"n,tokens,loss\n" + b"1,1,2\n" * 60_000_000, 1)[:400_000], "cannot be read as csv"),
        ("\x1b[31mred.csv", b"n,\x1b]0;owned\x07,loss\n1,2,3", "no column for tokens"),
        ("<script>.csv", b"n,tokens,loss\n" + b"-1,1,2\n" * 9, "n is -1"),
    ],
)
def test_the_command_line_tells_it_in_one_message_and_writes_nothing(tmp_path, file, content, message):
    work = tmp_path / "work"
    work.mkdir()
    (work / file).write_bytes(content)
    before = snapshot(tmp_path)
    end = limited_command("fit", work / file, cwd=work, memory=6 << 30)
    assert message in refusal(end)
    assert "\x1b" not in end.stderr
    assert snapshot(tmp_path) == before
