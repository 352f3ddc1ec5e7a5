"""Finding in anyone's table the columns that a law needs, and giving them as numbers a fit can trust."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.errors import TableError
from testbed.points.expressions import columns_of, quoted, short
from testbed.points.names import COUNTS, DERIVED, USUAL_NAMES
from testbed.points.numbers import column_of, listed, row_number, to_floats
from testbed.points.parsing import parse
from testbed.points.where import computed

_OPTIONS = {"n": "--n", "tokens": "--d", "loss": "--loss", "run": "--run"}


def map_columns(
    table: pd.DataFrame, wanted: tuple[str, ...], given: Mapping[str, str | None], where: str
) -> dict[str, str]:
    """Canonical name -> the table's column, or the expression that computes it, for `wanted`, and for run if it is there.

    `given` names columns, or expressions over columns, for canonical names; None is as if not there. The
    others are the first of their USUAL_NAMES that the table has (so N without embeddings before the
    total), case and punctuation not counting in names of three letters or more; else they are computed
    as DERIVED says. A law's name that is not usual is its own. TableError says what was looked for,
    what the table has, and the option that names a column.
    """
    finder = _Finder(table, {name: column for name, column in given.items() if column is not None}, where)
    finder.check_given(wanted)
    mapping = {name: finder.column(name) for name in dict.fromkeys((*wanted, *finder.given)) if name != "run"}
    run = finder.find("run")
    if run is not None:
        mapping["run"] = run
    elif "run" in wanted or "run" in finder.given:
        raise finder.nothing_for("run")
    _check_unshared(mapping, where)
    return mapping


def derived_columns(table: pd.DataFrame, mapping: Mapping[str, str]) -> dict[str, str]:
    """The part of a mapping that is computed: canonical name -> expression over the table's columns."""
    return {name: source for name, source in mapping.items() if source not in table.columns}


def fit_columns(
    table: pd.DataFrame, mapping: Mapping[str, str], where: str, positive: Collection[str] | None = None
) -> pd.DataFrame:
    """The mapped columns as finite floats, and run as text (one a row where the table names none).

    Those in `positive` (all, if None) have to be above 0. TableError names the first row that is not
    such a number (missing, infinite, a text, a truth) and how many there are. Rows keep their order.
    """
    clean: dict[str, Any] = {}
    for name, source in mapping.items():
        if name != "run":
            values = _numbers(table, name, source, where)
            above_zero = positive is None or name in positive
            good = np.isfinite(values) & (values > 0) if above_zero else np.isfinite(values)
            _check_rows(
                table, source, values, good, "a finite number above 0" if above_zero else "a finite number", where
            )
            clean[name] = values
    clean["run"] = _runs(table, mapping.get("run"), where)
    return pd.DataFrame(clean)


def points_digest(points: pd.DataFrame) -> str:
    """SHA-256 of the fitted columns (as fit_columns gives them), the order of rows and columns not counting."""
    columns = sorted(points.columns)
    if columns == ["loss", "n", "run", "tokens"]:
        values = zip(*(points[name].tolist() for name in ("run", "n", "tokens", "loss")), strict=True)
        rows = sorted(f"{run},{n!r},{tokens!r},{loss!r}" for run, n, tokens, loss in values)
    else:
        rows = [repr(columns), *sorted(map(repr, zip(*(points[name].tolist() for name in columns), strict=True)))]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


class _Finder:
    def __init__(self, table: pd.DataFrame, given: dict[str, str], where: str) -> None:
        self.table, self.given, self.where = table, given, where
        self.alike: dict[str, list[str]] = {}  # plain spelling -> the table's columns
        for column in dict.fromkeys(name for name in table.columns if isinstance(name, str)):
            if len(_plain(column)) > 2:  # of one or two letters the case matters: N, D, n, d
                self.alike.setdefault(_plain(column), []).append(column)

    def check_given(self, wanted: tuple[str, ...]) -> None:
        accepted = dict.fromkeys((*wanted, *USUAL_NAMES))
        for name in self.given:
            if name not in accepted:
                raise TableError(f"{self.where}: found a column given for {name}; accepted: {', '.join(accepted)}")

    def column(self, name: str) -> str:
        """The column or expression for `name`."""
        found = self.find(name) or self._derived(name)
        if found is None:
            raise self.nothing_for(name)
        return found

    def find(self, name: str) -> str | None:
        """What is given for `name`, else its usual column."""
        if name in self.given:
            return self._given(self.given[name])
        return self._usual(name)

    def nothing_for(self, name: str) -> TableError:
        looked = (short(self.given[name]),) if name in self.given else USUAL_NAMES.get(name, (name,))
        return TableError(
            f"{self.where}: no column for {name} (looked for {', '.join(looked)}); the table has "
            f"{listed(self.table)}; name one with {_option(name)}"
        )

    def _given(self, source: str) -> str | None:
        if source in self.table.columns:
            column_of(self.table, source, self.where)
            return source
        try:
            needed = columns_of(parse(source, self.where))
        except TableError:
            return None
        return source if needed and all(column in self.table.columns for column in needed) else None

    def _usual(self, name: str) -> str | None:
        for spelling in USUAL_NAMES.get(name, (name,)):
            if spelling in self.table.columns:
                column_of(self.table, spelling, self.where)
                return spelling
            alike = self.alike.get(_plain(spelling), [])
            if len(alike) > 1:
                raise TableError(
                    f"{self.where}: {' and '.join(alike)} could each be {name}; name one with {_option(name)}"
                )
            if alike:
                return alike[0]
        return None

    def _derived(self, name: str) -> str | None:
        if name in self.given:
            return None
        for template in DERIVED.get(name, ()):
            sources = {needed: self.find(needed) for needed in columns_of(parse(template, self.where))}
            if all(sources.values()):
                return self._written(template, sources)
        return None

    def _written(self, template: str, sources: Mapping[str, str | None]) -> str:
        """The template with the table's columns, or the expressions given for them, in the place of canonical names."""
        written = {
            name: quoted(source) if source in self.table.columns else f"({source})"
            for name, source in sources.items()
            if source is not None
        }
        return re.sub(r"[a-z_]+", lambda match: written[match[0]], template)


def _option(name: str) -> str:
    """How the command line names a column for `name`."""
    return f"{_OPTIONS[name]} COLUMN" if name in _OPTIONS else f"--column {name}=COLUMN"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _check_unshared(mapping: Mapping[str, str], where: str) -> None:
    owner: dict[str, str] = {}
    for name, source in mapping.items():
        if source in owner:
            raise TableError(
                f"{where}: column {source} is taken for both {owner[source]} and {name}; name another with "
                f"{_option(owner[source])} or {_option(name)}"
            )
        owner[source] = name


def _numbers(table: pd.DataFrame, name: str, source: str, where: str) -> NDArray[np.float64]:
    if source in table.columns:
        return to_floats(column_of(table, source, where), counts=name in COUNTS)
    return computed(table, source, where)


def _check_rows(
    table: pd.DataFrame, source: str, values: Any, good: NDArray[np.bool_], accepted: str, where: str
) -> None:
    bad = np.flatnonzero(~good)
    if bad.size:
        found = table[source].iloc[bad[0]] if source in table.columns else values[bad[0]]
        raise TableError(
            f"{where}, row {row_number(table, int(bad[0]))}: {short(source)} is {_shown(found)}; accepted: {accepted} "
            f"({bad.size} such row{'s' * (bad.size > 1)}); drop or mend them"
        )


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(short(value))
    return "an enormous number" if isinstance(value, int) and value.bit_length() > 400 else short(str(value))


def _runs(table: pd.DataFrame, source: str | None, where: str) -> list[str]:
    if source is None:
        return [str(i) for i in range(len(table))]
    column = column_of(table, source, where)
    missing = column.isna().to_numpy()
    _check_rows(table, source, column, ~missing, "a name in every row", where)
    return column.astype(str).tolist()
