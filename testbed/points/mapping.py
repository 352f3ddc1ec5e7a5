"""Finds the columns that a law needs in any table of runs, and reads them as numbers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.errors import TableError
from testbed.points.columns import COLUMNS, canonical, column_named
from testbed.points.expressions import columns_of, computed, parse, quoted
from testbed.points.numbers import column_of, listed, row_number, short, to_floats
from testbed.points.wide import shape_hint


def map_columns(
    table: pd.DataFrame, wanted: tuple[str, ...], given: Mapping[str, str | None], where: str
) -> dict[str, str]:
    """For each wanted column, and for run if the table has it: the table's column, or an expression that computes it.

    Each is, in this order: what `given` says (a column, or an expression over columns; None counts as not
    given); the first of the column's names that the table has (see `points.columns`; N without embeddings
    comes before the total), where case and punctuation do not count in names of three letters or more; the
    first of its `derived` expressions that the table has the columns for.

    Raises:
        TableError: A column cannot be found, or two could be it. The message says what was looked for, what
            the table has, and the option that names a column.
    """
    finder = _Finder(table, _given(given, wanted, where), where)
    mapping = {name: finder.column(name) for name in dict.fromkeys((*wanted, *finder.given)) if name != "run"}
    run = finder.find("run")
    if run is not None:
        mapping["run"] = run
    elif "run" in wanted or "run" in finder.given:
        raise finder.nothing_for("run")
    _check_unshared(mapping, where)
    return mapping


def derived_columns(table: pd.DataFrame, mapping: Mapping[str, str]) -> dict[str, str]:
    """The part of a mapping that is computed: column -> expression over the table's columns."""
    return {name: source for name, source in mapping.items() if source not in table.columns}


def fit_columns(
    table: pd.DataFrame, mapping: Mapping[str, str], where: str, positive: Collection[str] | None = None
) -> pd.DataFrame:
    """The mapped columns as finite floats, in the table's order, and run as text (the row number if no column is a run).

    Columns in `positive` (all, if None) have to be above 0.

    Raises:
        TableError: A value is missing, infinite, a text, true or false, or not above 0 where it has to be. The
            message names the first such row and says how many there are.
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
    """SHA-256 of fitted columns (from fit_columns), independent of the order of rows and columns."""
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
        for name in dict.fromkeys(name for name in table.columns if isinstance(name, str)):
            if len(_plain(name)) > 2:  # of one or two letters the case matters: N, D, n, d
                self.alike.setdefault(_plain(name), []).append(name)

    def column(self, name: str) -> str:
        """The column or expression for `name`; TableError if there is none."""
        found = self.find(name) or self._derived(name)
        if found is None:
            raise self.nothing_for(name)
        return found

    def find(self, name: str) -> str | None:
        """What is given for `name`, else the table's column of one of its names; None if there is neither."""
        return self._stated(self.given[name]) if name in self.given else self._named(name)

    def nothing_for(self, name: str) -> TableError:
        looked = (short(self.given[name]),) if name in self.given else column_named(name).names
        return TableError(
            f"{self.where}: no column for {name} (looked for {', '.join(looked)}); the table has "
            f"{listed(self.table)}; name one with {_option(name)}{self._shape(name)}"
        )

    def _shape(self, name: str) -> str:
        """What is wrong with the table's shape, where a size or the loss is missing that was not given."""
        if name in self.given or name not in ("n", "tokens", "loss"):
            return ""
        return shape_hint(self.table, lambda other: self.find(other) is not None, self.where)

    def _stated(self, source: str) -> str | None:
        if source in self.table.columns:
            column_of(self.table, source, self.where)
            return source
        try:
            needed = columns_of(parse(source, self.where))
        except TableError:
            return None
        return source if needed and all(each in self.table.columns for each in needed) else None

    def _named(self, name: str) -> str | None:
        for spelling in column_named(name).names:
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
        for template in column_named(name).derived:
            sources = {needed: self.find(needed) for needed in columns_of(parse(template, self.where))}
            if all(sources.values()):
                return self._written(template, sources)
        return None

    def _written(self, template: str, sources: Mapping[str, str | None]) -> str:
        """The template with canonical names replaced by the table's columns, or by expressions given for them."""
        written = {
            name: quoted(source) if source in self.table.columns else f"({source})"
            for name, source in sources.items()
            if source is not None
        }
        return re.sub(r"[a-z_]+", lambda match: written[match[0]], template)


def _given(given: Mapping[str, str | None], wanted: tuple[str, ...], where: str) -> dict[str, str]:
    """`given` by canonical names, without what is None."""
    accepted = dict.fromkeys((*wanted, *(each.name for each in COLUMNS if each.spellings)))
    found: dict[str, str] = {}
    for name, source in given.items():
        if source is not None:
            known = canonical(name, wanted)
            if known not in accepted:
                raise TableError(f"{where}: found a column given for {name}; accepted: {', '.join(accepted)}")
            if known in found:
                raise TableError(f"{where}: found {found[known]} and {source} given for {known}; give one of them")
            found[known] = source
    return found


def _option(name: str) -> str:
    """The command-line option that names a column for `name`."""
    option = column_named(name).option
    return f"--column {name}=COLUMN" if option is None else f"{option} COLUMN"


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
        return to_floats(column_of(table, source, where), counts=column_named(name).count)
    return computed(table, source, where)


def _check_rows(
    table: pd.DataFrame, source: str, values: Any, good: NDArray[np.bool_], accepted: str, where: str
) -> None:
    bad = np.flatnonzero(~good)
    if bad.size:
        found = table[source].iloc[bad[0]] if source in table.columns else values[bad[0]]
        raise TableError(
            f"{where}, row {row_number(table, int(bad[0]))}: {short(source)} is {_shown(found)}; accepted: {accepted} "
            f"({bad.size} such row{'s' * (bad.size > 1)}); {_remedy(found)}"
        )


def _remedy(found: Any) -> str:
    if isinstance(found, str) and re.fullmatch(r"\s*[0-9]+,[0-9]{3}\s*", found):
        either = f"{found.replace(',', '')} or {found.replace(',', '.')}"
        return f"drop or correct them; its comma may separate thousands or decimals: write {either}"
    return "drop or correct them"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(short(value))
    return "an enormous number" if isinstance(value, int) and value.bit_length() > 400 else short(str(value))


def _runs(table: pd.DataFrame, source: str | None, where: str) -> list[str]:
    if source is None:
        return [str(i) for i in range(len(table))]
    names = column_of(table, source, where)
    missing = names.isna().to_numpy()
    _check_rows(table, source, names, ~missing, "a name in every row", where)
    return names.astype(str).tolist()
