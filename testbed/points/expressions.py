"""Expressions over a table's columns, as a tree: `n >= 1e8 and run in ("a", "b")`, or `flops / (6 * n)`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from testbed.errors import TableError

WORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})


@dataclass(frozen=True)
class Literal:
    """A number (whole ones stay exact), a text in quotes, true or false. `at` is where in the text it stands."""

    value: int | float | str | bool
    at: int


@dataclass(frozen=True)
class Column:
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
class Comparison:
    """first op second op third …: every neighbouring pair has to hold."""

    first: Node
    rest: tuple[tuple[str, Node], ...]
    at: int


@dataclass(frozen=True)
class Membership:
    """part in (values)."""

    part: Node
    values: tuple[Literal, ...]
    at: int


@dataclass(frozen=True)
class Missing:
    """part is null."""

    part: Node
    at: int


@dataclass(frozen=True)
class Not:
    """not part."""

    part: Node
    at: int


@dataclass(frozen=True)
class Every:
    """part and part and …"""

    parts: tuple[Node, ...]
    at: int


@dataclass(frozen=True)
class Some:
    """part or part or …"""

    parts: tuple[Node, ...]
    at: int


Node = Literal | Column | Arithmetic | Comparison | Membership | Missing | Not | Every | Some


def columns_of(node: Node) -> tuple[str, ...]:
    """The columns that an expression names, each once, in the order in which they appear."""
    match node:
        case Column(name):
            return (name,)
        case Arithmetic(first, rest) | Comparison(first, rest):
            parts: tuple[Node, ...] = (first, *(part for _, part in rest))
        case Membership(part) | Missing(part) | Not(part):
            parts = (part,)
        case Every(several) | Some(several):
            parts = several
        case _:
            parts = ()
    return tuple(dict.fromkeys(name for part in parts for name in columns_of(part)))


def quoted(column: str) -> str:
    """A column's name as an expression writes it: in backticks where it is no plain word."""
    plain = re.fullmatch(r"[^\W\d]\w*", column) and column.lower() not in WORDS
    return column if plain else f"`{column}`"


def short(text: str) -> str:
    """The text as a message shows it: whole, or its first 100 characters."""
    return text if len(text) <= 100 else f"{text[:99]}…"


def fault(text: str, at: int, where: str, problem: str) -> TableError:
    """The error for a place in an expression, with the text around it."""
    start, end = max(0, at - 30), at + 30
    shown = "…" * (start > 0) + text[start:end] + "…" * (end < len(text))
    return TableError(f"{where}: in the expression {shown!r}, character {at + 1}: {problem}")
