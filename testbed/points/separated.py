"""Reads tables of separated values as people write and export them: other separators, comment lines, decimal commas."""

from __future__ import annotations

import csv
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pandas as pd

from testbed.points.spelled_numbers import looks_numeric, plain_numbers

# pandas reads numbers to the last bit by default from 3.1 on, where the option for it is deprecated.
_VERSION = tuple(int(part) for part in pd.__version__.split(".")[:2])
_EXACT: dict[str, Any] = {"float_precision": "round_trip"} if _VERSION < (3, 1) else {}
_SEPARATORS = ",;\t|"
_BLANKS = r"\s+"
_SAMPLE = 40  # lines from which the separator is found
_HINT = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # the first line of a file that a spreadsheet wrote


def read_separated(text: str, usual: str) -> pd.DataFrame:
    """The table in a text; `usual` separates its values unless another sign fits the header and the first rows.

    Lines that begin with # are comments, blanks around names and values are dropped, and a column of numbers with
    thousands separators or decimal commas is numbers where the table proves which of the two they are.

    Raises:
        ValueError: The rows do not fit the header; pandas' errors are ValueErrors too.
    """
    text, stated = _without_hint(text)
    text, header = _without_comments(text, usual)
    separator = stated or _separator(text, usual)
    commas = separator != "," and re.search(r"[0-9],[0-9]", text) is not None
    table = _parsed(text, separator, dtype=str if commas else None)
    _name_columns(table, text, separator, header)
    if " " in text or "\t" in text:
        for position in _text_columns(table):
            table.isetitem(position, table.iloc[:, position].str.strip().array)
    return plain_numbers(_without_empty(table), all_texts=commas)


def header_width(text: str, separator: str) -> int:
    """The number of columns of a text's first line, at most."""
    return text[: text.find("\n")].count(separator) + 1


def _parsed(text: str, separator: str, dtype: type | None) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            # index_col=False: else a row of more fields than the header would shift every column by one
            table: pd.DataFrame = pd.read_csv(
                StringIO(text),
                sep=separator,
                index_col=False,
                low_memory=False,
                skipinitialspace=True,
                dtype=dtype,
                **_EXACT,
            )
            return table
        except pd.errors.ParserWarning:
            lines = [line for line in text.split("\n") if line.strip()][:2]
            raise ValueError(
                "the rows have more fields than the header; name every column, and put quotes around values that hold "
                f"the separator {separator!r}: the first lines are {' and '.join(repr(line.strip()[:60]) for line in lines)}"
            ) from None


def _name_columns(table: pd.DataFrame, text: str, separator: str, header: list[str] | None) -> None:
    """Give the columns their names in the file, without blanks: pandas renames the second of two columns of one name."""
    if header is None:
        first = pd.read_csv(
            StringIO(text), sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False, skipinitialspace=True
        )
        header = first.iloc[0].tolist()
    names = [name.strip() for name in header]
    if len(names) == len(table.columns):
        times = Counter(names)
        pairs = zip(names, table.columns, strict=True)
        table.columns = pd.Index([name if times[name] > 1 or name else str(now).strip() for name, now in pairs])


def _without_empty(table: pd.DataFrame) -> pd.DataFrame:
    """The table without rows that hold nothing and without nameless columns that hold nothing, as spreadsheets add."""
    nameless = [not str(name) or str(name).startswith("Unnamed: ") for name in table.columns]
    if any(nameless):
        empty = table.isna().all(axis=0).to_numpy()
        table = table.loc[:, [not (no_name and none) for no_name, none in zip(nameless, empty, strict=True)]]
    if len(table.columns) and table.iloc[:, 0].isna().any():
        table = table[table.notna().any(axis=1)]
    return table


def _without_hint(text: str) -> tuple[str, str | None]:
    """The text without a first line such as sep=; and the separator that this line states."""
    first, _, rest = text.partition("\n")
    found = _HINT.fullmatch(first)
    return (rest, found[1]) if found else (text, None)


def _without_comments(text: str, usual: str) -> tuple[str, list[str] | None]:
    """The text without lines that begin with #, unless one is the header or all rows begin so."""
    if not text.startswith("#") and "\n#" not in text:
        return text, None
    lines = text.split("\n")
    hashed = set(_hashed(lines))
    plain = [i for i, line in enumerate(lines) if line.strip() and i not in hashed]
    if not plain:
        return text, None
    rest = "\n".join(lines[i] for i in plain)
    separator = _separator(rest, usual)
    before = [i for i in hashed if i < plain[0]]
    names = _fields(re.sub(r"#\s+", "", lines[max(before)], count=1), separator) if before else []
    first = _fields(lines[plain[0]], separator)
    if len(names) == len(first) and any(map(looks_numeric, first)) and not any(map(looks_numeric, names)):
        named = "\n".join([_line(names, separator), rest])
        _tell_comments(len(hashed) - 1)
        return (named, names) if separator != _BLANKS else (named, None)
    if len(plain) == 1:  # the header; every row begins with #
        return text, None
    _tell_comments(len(hashed))
    return rest, None


def _tell_comments(count: int) -> None:
    if count:
        warnings.warn(f"left out as comments: {count} line{'s' * (count > 1)} beginning with #", stacklevel=6)


def _line(fields: list[str], separator: str) -> str:
    if separator == _BLANKS:
        return " ".join(fields)
    out = StringIO()
    csv.writer(out, delimiter=separator, lineterminator="").writerow(fields)
    return out.getvalue()


def _hashed(lines: list[str]) -> Iterator[int]:
    """Lines that begin with #, outside of quotes that span lines."""
    inside = False
    for i, line in enumerate(lines):
        if not inside and line.startswith("#"):
            yield i
        else:
            inside ^= line.count('"') % 2 == 1


def _separator(text: str, usual: str) -> str:
    """The sign that cuts the header and the first rows into the same number of fields, at least two; `usual` if none does."""
    lines = [line.rstrip("\r") for line in text[: 1 << 18].split("\n", 2 * _SAMPLE)[: 2 * _SAMPLE] if line.strip()][
        :_SAMPLE
    ]
    signs = [usual, *(sign for sign in _SEPARATORS if sign != usual)]
    widths = {sign: _width(lines, sign) for sign in signs}
    best = max(signs, key=lambda sign: widths[sign])
    if widths[best] > 1:
        return best
    words = [len(line.split()) for line in lines]
    alone = lines and usual not in lines[0] and len(lines) > 1 and words[0] > 1 and len(set(words)) == 1
    numbers = alone and any(map(looks_numeric, lines[1].split())) and '"' not in lines[0]
    return _BLANKS if numbers else usual


def _width(lines: list[str], separator: str) -> int:
    """The number of fields of the header, if each row has as many, apart from empty ones at its end; else 0."""
    try:
        rows = [_fields(line, separator) for line in lines]
    except csv.Error:
        return 0
    width = len(rows[0]) if rows else 0
    return width if all(len(row) == width or (len(row) > width and not any(row[width:])) for row in rows) else 0


def _fields(line: str, separator: str) -> list[str]:
    if separator == _BLANKS:
        return line.split()
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _text_columns(table: pd.DataFrame) -> list[int]:
    return [i for i, kind in enumerate(table.dtypes) if pd.api.types.is_string_dtype(kind)]
