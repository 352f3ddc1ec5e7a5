"""Reads tables in JSON: a list of objects, columns as lists, or an object a line; objects in objects are columns a.b."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

_DEEPEST = 4  # objects in objects whose values are columns
_SAID = "accepted: a list of objects, an object of columns, or an object a line"


def read_json(text: str, check_size: Callable[[int, int], None]) -> pd.DataFrame:
    """The table in a JSON document, or in JSON lines if the text is those.

    >>> read_json('[{"config": {"lr": 0.1}, "loss": 2.5}]', lambda rows, columns: None).to_dict("list")
    {'config.lr': [0.1], 'loss': [2.5]}

    Raises:
        ValueError: It is no JSON, or no table; with the line where it is JSON lines.
    """
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return read_json_lines(text, check_size)
        raise
    return _table(_rows(document), check_size)


def read_json_lines(text: str, check_size: Callable[[int, int], None]) -> pd.DataFrame:
    """The table of an object a line, or in one JSON document if the text is that.

    Raises:
        ValueError: A line is no object, with its number.
    """
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line, object_pairs_hook=_object)
            except ValueError as error:
                if not rows and (document := _document(text)) is not None:
                    return _table(_rows(document), check_size)
                raise ValueError(f"line {number}: {error}") from None
            if not isinstance(row, dict):
                if number == 1 and not text[len(line) :].strip():
                    return _table(_rows(row), check_size)
                raise ValueError(
                    f"line {number} holds {line.strip()[:40]}; accepted: an object with columns as its keys"
                )
            rows.append(row)
    if len(rows) == 1 and any(isinstance(value, list | dict) for value in rows[0].values()):
        return _table(_rows(rows[0]), check_size)
    return _table(rows, check_size)


def flattened(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with objects in them as columns a.b."""
    return [_flat(row) if any(isinstance(value, dict) for value in row.values()) else row for row in rows]


def _table(rows: list[dict[str, Any]], check_size: Callable[[int, int], None]) -> pd.DataFrame:
    flat = flattened(rows)
    check_size(len(flat), len({name for row in flat for name in row}))
    return pd.DataFrame(flat)


def _document(text: str) -> Any:
    """The JSON document that is written over several lines, or None."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None


def _rows(document: Any) -> list[dict[str, Any]]:
    """The rows of a document: a list of objects, columns as lists or by row, or one list of objects among other things."""
    if isinstance(document, list):
        wrong = next((i for i, row in enumerate(document) if not isinstance(row, dict)), None)
        if wrong is not None:
            raise ValueError(f"item {wrong + 1} of the list is {json.dumps(document[wrong])[:40]}; {_SAID}")
        return document
    if not isinstance(document, dict):
        raise ValueError(f"found {json.dumps(document)[:40]}; {_SAID}")
    lists = {name: value for name, value in document.items() if _objects(value)}
    if len(lists) == 1:
        return next(iter(lists.values()))
    if len(lists) > 1:
        names = ", ".join(list(lists)[:8])
        raise ValueError(f"several lists of objects: {names}; keep one of them in the file")
    return _columns(document) or _by_row(document) or [document]


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _columns(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of columns as lists of one length, or as objects from row numbers (as pandas writes them)."""
    if {"columns", "data"} <= document.keys() and isinstance(document["data"], list):
        return [dict(zip(document["columns"], row, strict=True)) for row in document["data"]]
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    if lists and not any(isinstance(value, dict) for value in document.values()):
        lengths = {name: len(value) for name, value in lists.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns have different lengths: {str(lengths)[:80]}; give each the same")
        return [
            {name: value[i] if name in lists else value for name, value in document.items()}
            for i in range(next(iter(lengths.values())))
        ]
    values = list(document.values())
    if values and all(isinstance(value, dict) and value and all(key.isdigit() for key in value) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        return [{name: value.get(key) for name, value in document.items()} for key in keys]
    return []


def _by_row(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of an object of objects, one a run; its keys are the column run. Empty where it is none."""
    values = list(document.values())
    if len(values) < 2 or not all(isinstance(value, dict) for value in values):
        return []
    shared = set(values[0]).intersection(*values[1:])
    if not shared or {"config", "summary"} & document.keys():
        return []
    return [{"run": name} | value for name, value in document.items()]


def _flat(row: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict) and set(value) <= {"value", "desc"} and "value" in value:
            found[prefix + name] = value["value"]  # as Weights & Biases writes a configuration
        elif isinstance(value, dict) and value and depth < _DEEPEST:
            found |= _flat(value, f"{prefix}{name}.", depth + 1)
        else:
            found[prefix + name] = value
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found
