"""Tables as people write, export and hold them: one table in many spellings, or an error that names the cause."""

import json

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.fit import fit_law
from testbed.errors import TableError
from testbed.points import as_table, map_columns, read_table

N, D = (1_200_000, 15_000_000, 250_000_000), (30_000_000, 1_500_000_000)
ROWS = [(n, d, round(1.6 + 300 / n**0.3 + 900 / d**0.31, 4)) for n in N for d in D]


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def lines(separator=",", number="{}", loss="{}", header=("N", "D", "loss")):
    rows = [(number.format(n), number.format(d), loss.format(x)) for n, d, x in ROWS]
    return "\n".join(separator.join(row) for row in [header, *rows]) + "\n"


SPELLINGS = {
    "semicolons": lines(";"),
    "semicolons and decimal commas": lines(";").replace(".", ","),
    "tabs and decimal commas": lines("\t").replace(".", ","),
    "bars": lines("|"),
    "a spreadsheet's first line": "sep=;\n" + lines(";").replace(".", ","),
    "blanks around names and values": lines(" , ", header=(" N", "D ", "loss ")),
    "blanks alone": lines("  "),
    "comment lines": "# a sweep, of ours\n# on 2 machines\n" + lines() + "# the end\n",
    "a header behind a number sign": "# " + lines(),
    "a commented header of blanks": "# " + lines(" "),
    "thousands": lines(number='"{:,}"'),
    "thousands and semicolons": lines(";", number="{:,}"),
    "thousands by blanks": "N,D,loss\n"
    + "".join(f"{f'{n:,}'.replace(',', ' ')},{f'{d:,}'.replace(',', ' ')},{x}\n" for n, d, x in ROWS),
    "points and decimal commas": "N;D;loss\n"
    + "".join(
        f"{f'{n:,}'.replace(',', '.')};{f'{d:,}'.replace(',', '.')};{str(x).replace('.', ',')}\n" for n, d, x in ROWS
    ),
    "quoted decimal commas": "N,D,loss\n" + "".join(f'{n},{d},"{str(x).replace(".", ",")}"\n' for n, d, x in ROWS),
    "empty rows and columns of a spreadsheet": lines().replace("\n", ",,\n") + ",,,,\n,,,,\n",
    "windows lines and a byte order mark": "\ufeff" + lines(";").replace("\n", "\r\n").replace(".", ","),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_the_same_table(tmp_path, name):
    table = read_table(written(tmp_path / "t.csv", SPELLINGS[name]))
    assert [tuple(row) for row in table[["N", "D", "loss"]].itertuples(index=False)] == ROWS
    assert list(table.columns) == ["N", "D", "loss"]


RECORDS = [dict(zip(("N", "D", "loss"), row, strict=True)) for row in ROWS]
BY_COLUMN = {name: [row[name] for row in RECORDS] for name in ("N", "D", "loss")}
JSON = {
    "a list of objects": RECORDS,
    "columns as lists": BY_COLUMN,
    "columns by row, as pandas writes": {name: {str(i): v for i, v in enumerate(c)} for name, c in BY_COLUMN.items()},
    "split, as pandas writes": {"columns": ["N", "D", "loss"], "data": [list(row) for row in ROWS]},
    "rows among other things": {"best": 1.9, "log_history": RECORDS},
    "an object a run": {f"run {i}": row for i, row in enumerate(RECORDS)},
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", JSON)
def test_json_of_every_shape_is_the_same_table(tmp_path, name, indent, suffix):
    table = read_table(written(tmp_path / f"t{suffix}", json.dumps(JSON[name], indent=indent)))
    assert table[["N", "D", "loss"]].to_dict("records") == RECORDS
    assert ("run" in table) == (name == "an object a run")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson"])
def test_nested_json_lines_have_dotted_columns(tmp_path, suffix):
    rows = [
        {"config": {"model": {"n": n}, "lr": {"value": 0.1, "desc": None}}, "summary": {"eval/loss": x}}
        for n, _, x in ROWS
    ]
    table = read_table(written(tmp_path / f"t{suffix}", "\n".join(map(json.dumps, rows))))
    assert list(table.columns) == ["config.model.n", "config.lr", "summary.eval/loss"]
    assert table["config.lr"].tolist() == [0.1] * len(ROWS)


def test_the_first_filled_sheet_of_an_excel_file_is_read(tmp_path):
    pytest.importorskip("openpyxl")
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame().to_excel(book, sheet_name="empty")
        pd.DataFrame(RECORDS).rename(columns={"N": " N "}).to_excel(book, sheet_name="runs", index=False)
    assert read_table(tmp_path / "t.xlsx").to_dict("records") == RECORDS
    with pd.ExcelWriter(tmp_path / "two.xlsx") as book:
        for name in ("runs", "notes"):
            pd.DataFrame(RECORDS).to_excel(book, sheet_name=name, index=False)
    with pytest.warns(UserWarning, match="the sheet runs is read; others are notes"):
        assert len(read_table(tmp_path / "two.xlsx")) == len(ROWS)


def test_what_is_no_excel_file_is_told(tmp_path):
    with pytest.raises(TableError, match=r"cannot be read as xlsx|needs openpyxl"):
        read_table(written(tmp_path / "t.xlsx", "N,D,loss\n1,2,3\n"))


def test_a_comma_that_could_be_either_is_a_text(tmp_path):
    table = read_table(written(tmp_path / "t.csv", 'N,loss\n"25,000",3\n"75,000",2\n'))
    assert table["N"].tolist() == ["25,000", "75,000"]
    with pytest.raises(TableError, match=r"row 1: N is '25,000'.*its comma may separate thousands or decimals"):
        fit_law("kaplan_n", table)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_other_columns_tell_what_a_comma_is(tmp_path):
    thousands = read_table(written(tmp_path / "t.csv", 'N,D,loss\n"25,000","3,000,000",3\n"75,000","9,000,000",2\n'))
    assert thousands["N"].tolist() == [25_000, 75_000]
    decimals = read_table(written(tmp_path / "u.csv", "N;lr;loss\n25;0,0005;3,125\n75;0,0005;2,875\n"))
    assert decimals["loss"].tolist() == [3.125, 2.875]
    assert decimals["lr"].tolist() == [0.0005, 0.0005]


def test_separators_in_numbers_are_told(tmp_path):
    with pytest.warns(UserWarning, match=r"numbers with separators: N \(1,200,000 is 1200000\), D"):
        read_table(written(tmp_path / "t.csv", SPELLINGS["thousands"]))
    with pytest.warns(UserWarning, match="left out as comments: 2 lines beginning with #"):
        read_table(written(tmp_path / "t.csv", "N,D\n1,2\n#3,4\n#5,6\n7,8\n"))


def test_names_may_begin_with_a_number_sign(tmp_path):
    table = read_table(written(tmp_path / "t.csv", "#Params (B),run,loss\n7,#1,2.5\n13,#2,2.25\n"))
    assert table.to_dict("list") == {"#Params (B)": [7, 13], "run": ["#1", "#2"], "loss": [2.5, 2.25]}
    names = read_table(written(tmp_path / "u.csv", "run,loss\n#1,2.5\n#2,2.25\n"))
    assert names["run"].tolist() == ["#1", "#2"]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        (
            "t.csv",
            b"N,D,loss\n25,000,1,000,4.2\n25,000,3,000,3.9\n",
            "rows have more fields.*quotes around values that hold the s",
        ),
        ("t.csv", b"PK\x03\x04\xff\xff", "not UTF-8|name it .xlsx"),
        ("t.pkl", b"", "a pickle may run code"),
        ("t.xls", b"", "save it as .xlsx or .csv"),
        ("t.json", b'{"a": [{"n": 1}], "b": [{"n": 2}]}', "several lists of objects: a, b"),
        ("t.json", b'{"n": [1, 2], "loss": [3]}', "the columns have different lengths"),
        ("t.json", b"[1, 2]", "item 1 of the list is 1; accepted: a list of objects"),
        ("t.json", b"3", "found 3; accepted"),
    ],
)
def test_a_refused_file_is_told_with_its_cause(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=match):
        read_table(tmp_path / name)


TABLE = pd.DataFrame(RECORDS)


def test_whatever_python_holds_as_a_table(tmp_path):
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    cells = pd.concat([TABLE, TABLE.assign(loss=99.0)]).groupby(["N", "D"])[["loss"]].min()
    nested = [{"config": {"N": r["N"], "D": r["D"]}, "loss": r["loss"]} for r in RECORDS]
    for data in (TABLE, BY_COLUMN, RECORDS, cells, tmp_path / "t.csv", str(tmp_path / "t.csv")):
        assert as_table(data, "t")[["N", "D", "loss"]].to_dict("records") == RECORDS
        assert fit_law("hoffmann", data, n_boot=0).nobs == len(ROWS)
    assert list(as_table(nested, "t").columns) == ["config.N", "config.D", "loss"]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (TABLE.set_index(["N", "D"])["loss"], r"found a Series; .*\.reset_index\(\) makes one with N, D"),
        (TABLE["loss"], "found a Series; accepted: a DataFrame"),
        (np.ones((3, 3)), r"an array of shape \(3, 3\), whose columns have no names"),
        ({"N": 1.0, "loss": 2.0}, "columns as lists of one length"),
        ({"N": [1.0, 2.0], "loss": [2.0]}, "'N': 2, 'loss': 1"),
        ([1, 2], "found a list"),
        (None, "found a NoneType"),
        (TABLE.groupby(["N", "D"]).agg(["mean", "std"]), "the columns have 2 levels"),
        ("none.csv", "none.csv: no such file"),
    ],
)
def test_what_is_no_table_is_told(data, match):
    with pytest.raises(TableError, match=match):
        fit_law("hoffmann", data)


WIDE = {  # header, values of one row, what the line of pandas makes of it
    "a column a model": (["tokens", "25M", "70M", "1.2B"], [1e9, 4.2, 3.9, 3.5], ["tokens", "n", "loss"]),
    "a column a data size": (["model", "0", "200", "51200", "819200"], ["a", 4.0, 3.5, 3.0, 2.5], ["model", "tokens", "loss"]),
    "a loss a model": (["D", "val_loss_10M", "val_loss_30M", "val_loss_100M"], [1e9, 4.2, 3.9, 3.5], ["D", "n", "loss"]),
    "a panel's export": (
        ["Step", *(f"{run} - val/loss{end}" for run in "ab" for end in ("", "__MIN", "__MAX"))],
        [10, 3.0, 3.0, 3.0, 2.0, 2.0, 2.0],
        ["Step", "run", "loss"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDE)
def test_a_wide_table_is_told_with_the_lines_that_make_it_long(tmp_path, monkeypatch, name):
    header, row, expected = WIDE[name]
    monkeypatch.chdir(tmp_path)
    pd.DataFrame([row] * 2, columns=header).to_csv("wide.csv", index=False)
    with pytest.raises(TableError, match="no column for") as caught:
        map_columns(read_table("wide.csv"), ("n", "tokens", "loss"), {}, "wide.csv")
    code = [line.strip() for line in str(caught.value).split("\n")[1:3]]
    assert code[0] == "table = pandas.read_csv('wide.csv')"
    exec("import pandas\n" + "\n".join(code))  # the lines of the message, as a user runs them
    assert list(pd.read_csv("long.csv").columns) == expected


def test_numbered_columns_are_no_wide_table_and_a_missing_header_is_told():
    table = pd.DataFrame([[1.0] * 5], columns=["N", "loss_1", "loss_2", "loss_3", "loss_4"])
    with pytest.raises(TableError, match=r"name one with --d COLUMN$"):
        map_columns(table, ("n", "tokens", "loss"), {}, "t.csv")
    with pytest.raises(TableError, match="its first line holds numbers, not names"):
        map_columns(pd.DataFrame([[1, 2]], columns=["25000000", "4.2"]), ("n", "loss"), {}, "t.csv")
