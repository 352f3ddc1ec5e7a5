"""Evaluates expressions on a table: the rows that satisfy a condition, the numbers of an arithmetic expression.

As in IEEE arithmetic a missing value is equal to nothing, not even to itself, and neither below nor above anything:
`loss < 3` leaves it out, `loss != 3` keeps it, `loss is null` finds it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.errors import TableError
from testbed.points.expressions import tree as ex
from testbed.points.expressions.parser import parse
from testbed.points.numbers import ValueKind, column_of, kind_of, row_number, short, to_floats, values_to_floats

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}
_APPLY: dict[str, Callable[..., Any]] = {
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "min": np.minimum,
    "max": np.maximum,
}
_SAID = {"number": "a number", "text": "a text", "truth": "true or false"}


def filter_rows(table: pd.DataFrame, expression: str, where: str) -> pd.DataFrame:
    """The rows of `table` for which `expression` holds, with their row labels.

    Raises:
        TableError: It is not a condition on this table, or no row satisfies it.
    """
    kept = table[_Evaluation(table, expression, where).condition(parse(expression, where))]
    if kept.empty:
        raise TableError(f"{where}: none of the {len(table)} rows has {short(expression)}; widen the condition")
    return kept


def computed(table: pd.DataFrame, expression: str, where: str) -> NDArray[np.float64]:
    """The numbers [rows] of an arithmetic expression; infinite or nan where they cannot be computed (x / 0).

    Raises:
        TableError: It is not an arithmetic expression on this table.
    """
    return _Evaluation(table, expression, where).numbers(parse(expression, where))


@dataclass(frozen=True)
class _Values:
    """One value for the whole table, or [rows]; truths are bool, or 0, 1 and nan where some are missing."""

    kind: ValueKind
    data: Any
    at: int


@dataclass(frozen=True)
class _Evaluation:
    table: pd.DataFrame
    text: str
    where: str

    def condition(self, node: ex.Node) -> NDArray[np.bool_]:
        """Whether the condition holds [rows]."""
        values = self._values(node)
        if values.kind != "truth":
            raise self._fault(node.at, f"found {_SAID[values.kind]}; accepted: a condition, such as tokens > 1e9")
        return np.broadcast_to(np.asarray(values.data == 1), len(self.table))

    def numbers(self, node: ex.Node) -> NDArray[np.float64]:
        """The values of an arithmetic expression [rows]."""
        return np.broadcast_to(self._floats(node), len(self.table))

    def _values(self, node: ex.Node) -> _Values:
        match node:
            case ex.Constant():
                return _constant(node)
            case ex.Name(name, at):
                return self._column(name, at)
            case ex.Arithmetic(first, rest, at):
                return _Values("number", self._arithmetic(first, rest), at)
            case ex.Call(name, parts, at):
                return _Values("number", self._called(name, parts), at)
            case ex.Compare(first, rest, at):
                return _Values("truth", self._comparison(first, rest), at)
            case ex.In(part, values, at):
                return _Values("truth", self._membership(part, values), at)
            case ex.IsNull(part, at):
                return _Values("truth", self._missing(part), at)
            case ex.Not(part, at):
                return _Values("truth", ~self.condition(part), at)
            case ex.Logical(word, parts, at):
                combine = np.logical_and if word == "and" else np.logical_or
                return _Values("truth", reduce(combine, (self.condition(part) for part in parts)), at)

    def _column(self, name: str, at: int) -> _Values:
        column = self._series(name, at)
        kind = kind_of(column)
        if kind == "other":
            raise self._fault(
                at, f"column {short(name)} holds {column.dtype}; accepted: numbers, texts, true and false"
            )
        if kind == "text":
            return _Values(kind, column.to_numpy(dtype=object, na_value=np.nan), at)
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iub":
            return _Values(kind, column.to_numpy(), at)  # whole numbers stay exact beyond 2**53
        if kind == "number":
            return _Values(kind, to_floats(column, counts=False), at)
        return _Values(kind, column.to_numpy(dtype=np.float64, na_value=np.nan), at)

    def _series(self, name: str, at: int) -> pd.Series[Any]:
        try:
            return column_of(self.table, name, self.where)
        except TableError as error:
            raise self._fault(at, str(error).removeprefix(f"{self.where}: ")) from None

    def _arithmetic(self, first: ex.Node, rest: tuple[tuple[str, ex.Node], ...]) -> Any:
        total = self._floats(first)
        with np.errstate(all="ignore"):
            for sign, part in rest:
                total = _COMBINE[sign](total, self._floats(part))
        return total

    def _called(self, name: str, parts: tuple[ex.Node, ...]) -> Any:
        values = [self._floats(part) for part in parts]
        with np.errstate(all="ignore"):
            return reduce(_APPLY[name], values) if len(values) > 1 else _APPLY[name](values[0])

    def _floats(self, node: ex.Node) -> Any:
        values = self._as_numbers(self._values(node))
        return np.asarray(values.data, np.float64)

    def _as_numbers(self, values: _Values) -> _Values:
        """Numbers, as they are or read from the texts of a column ("7B"); TableError for a text that is none."""
        if values.kind == "number":
            return values
        if values.kind == "truth" or isinstance(values.data, str):
            raise self._fault(values.at, f"found {_SAID[values.kind]}; accepted: a number or a column of numbers")
        numbers = values_to_floats(values.data, counts=True)
        bad = np.flatnonzero(np.isnan(numbers) & ~pd.isna(values.data))
        if bad.size:
            found = f"found texts, such as {short(values.data[bad[0]])!r} in row {row_number(self.table, int(bad[0]))}"
            raise self._fault(
                values.at, f"{found}; accepted: a column of numbers, or a comparison with a text in quotes"
            )
        return _Values("number", numbers, values.at)

    def _comparison(self, first: ex.Node, rest: tuple[tuple[str, ex.Node], ...]) -> NDArray[np.bool_]:
        holds, left = np.ones(len(self.table), np.bool_), self._values(first)
        for sign, part in rest:
            right = self._values(part)
            holds = holds & self._compare(sign, left, right)
            left = right
        return holds

    def _compare(self, sign: str, left: _Values, right: _Values) -> NDArray[np.bool_]:
        if {left.kind, right.kind} == {"number", "text"}:
            left, right = self._as_numbers(left), self._as_numbers(right)
        if left.kind != right.kind:
            raise self._fault(right.at, f"{_SAID[left.kind]} cannot be compared with {_SAID[right.kind]}")
        if left.kind != "number" and sign not in ("==", "!="):
            raise self._fault(right.at, f"found {sign} before {_SAID[right.kind]}; accepted: == and !=")
        return np.asarray(_COMPARE[sign](left.data, right.data), np.bool_)

    def _membership(self, part: ex.Node, values: tuple[ex.Constant, ...]) -> NDArray[np.bool_]:
        left, wanted = self._values(part), [_constant(value) for value in values]
        if left.kind == "text" and any(value.kind == "number" for value in wanted):
            left = self._as_numbers(left)
        for value in wanted:
            if value.kind != left.kind:
                raise self._fault(value.at, f"{_SAID[left.kind]} cannot be compared with {_SAID[value.kind]}")
        if left.kind == "text":
            return np.asarray(pd.Series(np.atleast_1d(left.data)).isin([value.data for value in wanted]))
        return reduce(np.logical_or, (self._compare("==", left, value) for value in wanted))

    def _missing(self, part: ex.Node) -> NDArray[np.bool_]:
        if isinstance(part, ex.Name):
            return self._series(part.name, part.at).isna().to_numpy()
        return np.asarray(np.isnan(self._floats(part)))

    def _fault(self, at: int, problem: str) -> TableError:
        return ex.fault(self.text, at, self.where, problem)


def _constant(constant: ex.Constant) -> _Values:
    kinds: dict[type, ValueKind] = {bool: "truth", str: "text", int: "number", float: "number"}
    return _Values(kinds[type(constant.value)], constant.value, constant.at)
