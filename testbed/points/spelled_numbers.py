"""Numbers that a table holds as texts: 25,000,000 or 25 000 000, and 4,243 where the comma is the decimal mark.

What a comma means is decided for a whole column, and only where it is proven: by the column itself, or by the other
columns of the table. Texts that could be either stay texts, which no fit takes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from testbed.units import parse_count

Mark = Literal[",", "."]

_EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
_GROUP = "[ \u00a0\u202f\u2009'’]"  # what separates thousands and nothing else
_DIGITS = re.compile(r"[+-]?[0-9]+")
_PLAIN = re.compile(rf"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+){_EXPONENT}")
_CANDIDATE = re.compile(rf"[+-]?[0-9.,\u00a0\u202f\u2009 '’]*[0-9]{_EXPONENT}")
_GROUPED = {  # decimal mark -> a number with thousands separators
    ".": re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(?:(?:,[0-9]{{3}})+|(?:{_GROUP}[0-9]{{3}})+)(?:\.[0-9]+)?"),
    ",": re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(?:(?:\.[0-9]{{3}})+|(?:{_GROUP}[0-9]{{3}})+)(?:,[0-9]+)?"),
}
_DECIMAL_COMMA = re.compile(rf"[+-]?[0-9]*,[0-9]+{_EXPONENT}")
_ONLY_BLANKS = re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(?:{_GROUP}[0-9]{{3}})+")


def looks_numeric(text: str) -> bool:
    """Whether a text is a number in any spelling: 1e9, 7B, 25,000,000 or 4,243."""
    if _CANDIDATE.fullmatch(text.strip()):
        return True
    try:
        parse_count(text)
    except ValueError:
        return False
    return True


def plain_numbers(table: pd.DataFrame, all_texts: bool = False) -> pd.DataFrame:
    """The table with its columns of such texts as numbers, where their marks are proven; a warning says which.

    With `all_texts` every column is still text, and is a number where it can be one; a comma that nothing proves is
    then the decimal mark (else the values would not be separated by another sign).
    """
    texts = {i: values for i in range(len(table.columns)) if (values := _candidates(table.iloc[:, i])) is not None}
    marks = {i: _marks(values) for i, values in texts.items()}
    proven = {next(iter(found)) for found in marks.values() if len(found) == 1}
    if not all_texts and _has_fractions(table):
        proven.add(".")
    usual: Mark | None = next(iter(proven)) if len(proven) == 1 else "," if all_texts and not proven else None
    changed: dict[int, Any] = {}
    told = []
    for i, values in texts.items():
        mark = _mark(marks[i], usual, values)
        if mark is not None:
            changed[i] = _converted(values, mark)
            told.append(f"{table.columns[i]} ({values[_shown(values)]} is {changed[i][_shown(values)]!r})")
    if all_texts:
        rest = {
            i: pd.to_numeric(table.iloc[:, i], errors="coerce") for i in range(len(table.columns)) if i not in changed
        }
        changed |= {i: _exact(table.iloc[:, i]) for i, c in rest.items() if c.notna().equals(table.iloc[:, i].notna())}
    if not changed:
        return table
    if told:
        warnings.warn(f"numbers with separators: {', '.join(told)}", stacklevel=5)
    table = table.copy(deep=False)
    for i, values in changed.items():
        table.isetitem(i, values)
    return table


def _candidates(column: pd.Series[Any]) -> list[Any] | None:
    """The column's values, if they are texts that look like numbers and one has a comma, a blank or several points."""
    if not (pd.api.types.is_string_dtype(column.dtype) or column.dtype == object):
        return None
    found = column.dropna()
    if found.empty or not isinstance(found.iloc[0], str) or not _CANDIDATE.fullmatch(found.iloc[0].strip()):
        return None
    texts = found.tolist()
    if not all(isinstance(text, str) and _CANDIDATE.fullmatch(text.strip()) for text in texts):
        return None
    if all(_PLAIN.fullmatch(text.strip()) for text in texts) and not any(map(_dotted_thousand, texts)):
        return None
    return [text.strip() if isinstance(text, str) else np.nan for text in column.tolist()]


def _dotted_thousand(text: str) -> bool:
    return re.fullmatch(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}", text.strip()) is not None


def _marks(values: Sequence[Any]) -> set[Mark]:
    """The decimal marks with which every value is a number."""
    texts = [text for text in values if isinstance(text, str)]
    fits: set[Mark] = set()
    if all(_PLAIN.fullmatch(text) or _GROUPED["."].fullmatch(text) for text in texts):
        fits.add(".")
    if all(_DIGITS.fullmatch(t) or _DECIMAL_COMMA.fullmatch(t) or _GROUPED[","].fullmatch(t) for t in texts):
        fits.add(",")
    return fits


def _mark(fits: set[Mark], usual: Mark | None, values: Sequence[Any]) -> Mark | None:
    """The decimal mark of a column, or None where it stays a text."""
    if len(fits) == 1:
        return next(iter(fits))
    if not fits:
        return None
    if all(not isinstance(text, str) or _DIGITS.fullmatch(text) or _ONLY_BLANKS.fullmatch(text) for text in values):
        return "."  # blanks and apostrophes separate nothing but thousands
    return usual


def _converted(values: Sequence[Any], mark: Mark) -> list[float] | list[int]:
    thousands = re.compile(f"{_GROUP}|[{'.' if mark == ',' else ','}]")
    plain = [thousands.sub("", text).replace(mark, ".") if isinstance(text, str) else text for text in values]
    if all(isinstance(text, str) and _DIGITS.fullmatch(text) and len(text) < 19 for text in plain):
        return [int(text) for text in plain]
    return [float(text) for text in plain]


def _exact(column: pd.Series[Any]) -> Any:
    """A column of plain numbers as texts: whole numbers, or floats to the last bit."""
    texts = column.tolist()
    if all(isinstance(text, str) and _DIGITS.fullmatch(text) and len(text) < 19 for text in texts):
        return [int(text) for text in texts]
    return [float(text) if isinstance(text, str) else np.nan for text in texts]


def _shown(values: Sequence[Any]) -> int:
    """The first value that has a separator."""
    return next(i for i, t in enumerate(values) if isinstance(t, str) and not _DIGITS.fullmatch(t))


def _has_fractions(table: pd.DataFrame) -> bool:
    """Whether some column of numbers has fractions: the point is the decimal mark."""
    floats = [i for i, kind in enumerate(table.dtypes) if pd.api.types.is_float_dtype(kind)]
    return any(bool((table.iloc[:, i].dropna() % 1 != 0).any()) for i in floats)
