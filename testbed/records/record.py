"""The base of all records, frozen and checked when read, and the reading of JSON files that hold them."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from testbed.config.identity import Identified
from testbed.errors import FolderError
from testbed.files import read_bytes, read_lines

_LARGEST = 10**30  # far above any real count, and still a float

Whole = Annotated[int, Field(ge=0, le=_LARGEST)]
Positive = Annotated[int, Field(ge=1, le=_LARGEST)]
Flops = Annotated[int, Field(ge=0, le=_LARGEST**3)]


class Record(Identified):
    """A frozen record; unknown fields, values of other types and NaN are refused when it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Kind = TypeVar("Kind", bound=Record)


def read_record(path: Path, kind: type[Kind]) -> Kind | None:
    """The record in the JSON file at `path`, None where there is no file.

    Raises:
        FolderError: The file holds something else.
    """
    try:
        return kind.model_validate_json(read_bytes(path))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise FolderError(f"{path}: not {_called(kind)} ({problem(error)}); take it away") from None


def read_records(path: Path, kind: type[Kind], remedy: str = "take it away") -> list[Kind]:
    """The records in a file with one JSON record a line; empty where there is no file.

    Raises:
        FolderError: A line is not such a record; the message names it and ends with `remedy`.
    """
    lines = read_lines(path)
    with suppress(ValidationError):  # all in one go, which is much faster; a wrong line is named below
        at_once: list[Kind] = _list_of(kind).validate_json(f"[{','.join(lines)}]")
        if len(at_once) == len(lines):
            return at_once
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise FolderError(f"{path}, line {number}: not {_called(kind)} ({problem(error)}); {remedy}") from None
    return found


@cache
def _list_of(kind: type[Record]) -> TypeAdapter[Any]:
    return TypeAdapter(list[kind])  # type: ignore[valid-type]


def format_of(content: bytes) -> object:
    """The number `format` of a JSON file, 1 where it has none."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return 1
    return tree.get("format", 1) if isinstance(tree, dict) else 1


def too_new(found: object, newest: int) -> str | None:
    """Why a file of format `found` cannot be read where `newest` is the latest that is known; None where it can."""
    if isinstance(found, int) and found > newest:
        return f"found format {found}, this version of testbed reads up to format {newest}: update testbed"
    return None


def problem(error: ValidationError) -> str:
    """The first mistake with the name of its field, in bounded length."""
    first = error.errors(include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))[:200]}: {first['msg'][:300]}".removeprefix(": ")


def _called(kind: type[Record]) -> str:
    name = "evaluation" if kind.__name__ == "Eval" else kind.__name__.lower()
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def as_json(record: BaseModel) -> dict[str, Any]:
    """The record as plain JSON values."""
    return record.model_dump(mode="json")
