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
from testbed.points.finder import Finder, factor_text, fits_unit, option, takes_unit
from testbed.points.headers import Unit, stated_unit
from testbed.points.numbers import column_of, row_number, short, to_floats
from testbed.points.plausibility import check_counts, check_flops
from testbed.points.runs import NONE, named_runs

_ACCEPTED_UNITS = (
    "k, M, B, T, P, E or a power such as 1e21 for counts and FLOPs, bits for a loss, % for a share, 1 for as it is"
)


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
    return _mapped(Finder(table, _given(given, wanted, where), where), wanted)


def mapping_notes(
    table: pd.DataFrame, wanted: tuple[str, ...], given: Mapping[str, str | None], where: str
) -> tuple[str, ...]:
    """What a user should know about the choice that `map_columns` makes: a second loss, columns passed over, a unit."""
    finder = Finder(table, _given(given, wanted, where), where)
    _mapped(finder, wanted)
    return tuple(finder.notes.values())


def with_units(
    table: pd.DataFrame, given: Mapping[str, str | None], units: Mapping[str, str], where: str
) -> dict[str, str]:
    """`given` with the columns of `units` (canonical name -> k, M, B, T, 1e6, bits, % or 1) times their factors.

    A unit that a header states gives way to it.

    Raises:
        TableError: A unit is unknown, or its column is not found or is an expression.
    """
    found = {name: source for name, source in given.items() if source is not None}
    for name, text in units.items():
        unit = Unit(text, 1.0) if text in ("1", "1.0") else stated_unit(text)
        if unit is None or not (takes_unit(name) and fits_unit(name, unit)):
            raise TableError(f"{where}: found the unit {text!r} of {name}; accepted: {_ACCEPTED_UNITS}")
        source = Finder(table, found, where).raw(name)
        found[name] = f"{quoted(source)} * {factor_text(unit.factor) if unit.factor != 1 else 1}"
    return found


def check_sizes(table: pd.DataFrame, points: pd.DataFrame, mapping: Mapping[str, str], where: str) -> None:
    """Refuse N and D that are those of no model and no run, or a power of 1,000 off the table's FLOPs.

    A unit that was stated as 1 (`with_units`) is believed.

    Raises:
        TableError: With the units that mend it.
    """
    believed = {name for name in ("n", "tokens") if mapping.get(name, "").endswith(" * 1")}

    def flops() -> tuple[str, NDArray[np.float64]] | None:
        used = mapping.get("flops")
        source = used or _quietly(Finder(table, {}, where), "flops")
        return None if source is None else (source, _numbers(table, "flops", source, where))

    if not believed:
        check_flops(points, flops, mapping, where)  # first: it proves the factor
    check_counts(points.drop(columns=[name for name in believed if name in points]), mapping, where)


def known_sources(table: pd.DataFrame, known: Mapping[str, str]) -> dict[str, str]:
    """The part of another table's mapping (column or expression) that this table has the columns for."""
    return {name: source for name, source in known.items() if source in table.columns or _computable(table, source)}


def _computable(table: pd.DataFrame, source: str) -> bool:
    try:
        needed = columns_of(parse(source, "the mapping"))
    except TableError:
        return False
    return bool(needed) and all(name in table.columns for name in needed)


def _mapped(finder: Finder, wanted: tuple[str, ...]) -> dict[str, str]:
    given_run = finder.given.get("run")
    none = given_run is not None and given_run.lower() == NONE and given_run not in finder.table.columns
    mapping = {name: finder.column(name) for name in dict.fromkeys((*wanted, *finder.given)) if name != "run"}
    run = None if none else finder.find("run") if given_run is not None else _run(finder, mapping)
    if run is not None:
        mapping["run"] = run
    elif "run" in wanted or (given_run is not None and not none):
        raise finder.nothing_for("run")
    _check_unshared(mapping, finder.where)
    return mapping


def _run(finder: Finder, mapping: Mapping[str, str]) -> str | None:
    """The column that names runs, by what varies within it."""
    size = mapping.get("n") or _quietly(finder, "n")
    sizes = _numbers(finder.table, "n", size, finder.where) if size is not None and len(finder.table) else None
    step = _quietly(finder, "step")
    at = step or mapping.get("tokens") or _quietly(finder, "tokens")
    progress = _numbers(finder.table, "tokens", at, finder.where) if at is not None and len(finder.table) else None
    run, note = named_runs(finder.table, sizes, progress, step is not None)
    if note:
        finder.notes["run"] = note
    return run


def _quietly(finder: Finder, name: str) -> str | None:
    """A column that is not wanted for itself; None where it is not clear which it is."""
    try:
        return finder.find(name)
    except TableError:
        return None


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


def _check_unshared(mapping: Mapping[str, str], where: str) -> None:
    owner: dict[str, str] = {}
    for name, source in mapping.items():
        if source in owner:
            raise TableError(
                f"{where}: column {source} is taken for both {owner[source]} and {name}; name another with "
                f"{option(owner[source])} or {option(name)}"
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
