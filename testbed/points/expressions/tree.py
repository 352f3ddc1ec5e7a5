"""The tree of an expression. Every node has `at`, the position in the text (from 0) at which it begins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from testbed.errors import TableError

WORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})
FUNCTIONS = {
    "log": 1,
    "log2": 1,
    "log10": 1,
    "exp": 1,
    "sqrt": 1,
    "min": 2,
    "max": 2,
}  # name -> least number of arguments


@dataclass(frozen=True)
class Constant:
    """A number (whole ones stay exact), a text in quotes, true or false."""

    value: int | float | str | bool
    at: int


@dataclass(frozen=True)
class Name:
    """A column of the table."""

    name: str
    at: int


@dataclass(frozen=True)
class Arithmetic:
    """first op second op third …, from left to right: + and -, or * and /, or one **."""

    first: Node
    rest: tuple[tuple[str, Node], ...]
    at: int


@dataclass(frozen=True)
class Call:
    """name(part, ...): a function of FUNCTIONS, row by row; min and max take any number of parts from two on."""

    name: str
    parts: tuple[Node, ...]
    at: int


@dataclass(frozen=True)
class Compare:
    """first op second op third …: every neighbouring pair has to hold."""

    first: Node
    rest: tuple[tuple[str, Node], ...]
    at: int


@dataclass(frozen=True)
class In:
    """part in (values)."""

    part: Node
    values: tuple[Constant, ...]
    at: int


@dataclass(frozen=True)
class IsNull:
    """part is null."""

    part: Node
    at: int


@dataclass(frozen=True)
class Not:
    """not part."""

    part: Node
    at: int


@dataclass(frozen=True)
class Logical:
    """part and part and …, or part or part or …"""

    word: Literal["and", "or"]
    parts: tuple[Node, ...]
    at: int


Node = Constant | Name | Arithmetic | Call | Compare | In | IsNull | Not | Logical


def columns_of(node: Node) -> tuple[str, ...]:
    """The columns that an expression names, each once, in the order in which they appear."""
    match node:
        case Name(name):
            return (name,)
        case Arithmetic(first, rest) | Compare(first, rest):
            parts: tuple[Node, ...] = (first, *(part for _, part in rest))
        case In(part) | IsNull(part) | Not(part):
            parts = (part,)
        case Logical(parts=several) | Call(parts=several):
            parts = several
        case _:
            parts = ()
    return tuple(dict.fromkeys(name for part in parts for name in columns_of(part)))


def quoted(column: str) -> str:
    """A column's name as an expression writes it: in backticks unless it is a plain word."""
    plain = re.fullmatch(r"[^\W\d]\w*", column) and column.lower() not in WORDS
    return column if plain else f"`{column}`"


def fault(text: str, at: int, where: str, problem: str) -> TableError:
    """The error for a place in an expression, with the text around it."""
    start, end = max(0, at - 30), at + 30
    shown = "…" * (start > 0) + text[start:end] + "…" * (end < len(text))
    return TableError(f"{where}: in the expression {shown!r}, character {at + 1}: {problem}")
