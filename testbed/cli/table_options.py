"""The options of the commands that read a table of runs, and the rows and columns that these options choose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


def _check_level(level: float) -> float:
    if not 0 < level < 1:
        raise ConfigError(f"--level: found {level:g}; accepted: above 0 and below 1")
    return level


TablePath = Annotated[
    Path, typer.Argument(metavar="TABLE", help="points: .csv, .json, .parquet, .xlsx and more, or a sweep's folder")
]
Law = Annotated[str, typer.Option(help="the law; testbed laws lists them")]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="EXPR", help="only rows where this holds: \"n_params < 1e9 and data == 'c4'\""),
]
Level = Annotated[float, typer.Option(help="level of the intervals", callback=_check_level)]
Bootstrap = Annotated[int, typer.Option(help="resamples of the runs")]
Seed = Annotated[int, typer.Option(help="seed of the resampling")]
Delta = Annotated[float, typer.Option(help="Huber width")]


_UNIT_NAMES = {"N": "n", "D": "tokens", "d": "tokens", "C": "flops"}  # what --n, --d and the laws call them


@dataclass(frozen=True)
class ColumnOptions:
    """The options that name a table's columns."""

    n: Annotated[str | None, typer.Option("--n", metavar="COLUMN", help="the column of parameter counts")] = None
    d: Annotated[str | None, typer.Option("--d", metavar="COLUMN", help="the column of training tokens")] = None
    loss: Annotated[str | None, typer.Option("--loss", metavar="COLUMN", help="the column of losses")] = None
    run: Annotated[str | None, typer.Option("--run", metavar="COLUMN", help="the column that names the run")] = None

    @property
    def named(self) -> dict[str, str]:
        """The columns that were named, by what they hold."""
        columns = {"n": self.n, "tokens": self.d, "loss": self.loss, "run": self.run}
        return {name: column for name, column in columns.items() if column is not None}


@dataclass(frozen=True)
class RowOptions(ColumnOptions):
    """The options that name a table's columns and choose its rows."""

    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=COLUMN", help="the column of anything else a law needs"),
    ] = None
    unit: Annotated[
        list[str] | None,
        typer.Option(
            "--unit", metavar="NAME=UNIT", help="the units of columns: n=M,tokens=B; also T, 1e21, bits, %, 1"
        ),
    ] = None
    where: Where = None
    with_target: Annotated[bool, typer.Option("--with-target", help="use the losses of a study's target too")] = False
    all_phases: Annotated[bool, typer.Option("--all-phases", help="use losses that are not annealed too")] = False
    best: Annotated[
        bool,
        typer.Option("--best", help="only the best row of each design, such as the best learning rate of each N, D"),
    ] = False

    @property
    def named(self) -> dict[str, str]:
        """The columns that were named, by what they hold."""
        return super().named | dict(pairs(self.column, "--column", "NAME=COLUMN"))

    @property
    def units(self) -> dict[str, str]:
        """The units that were stated, by what the columns hold."""
        parts = [part for value in self.unit or () for part in value.split(",") if part.strip()]
        return {
            _UNIT_NAMES.get(name, name): unit for name, unit in pairs(parts, "--unit", "NAME=UNIT, as in n=M,tokens=B")
        }


@dataclass(frozen=True)
class Selection:
    """The rows of a table that a command works on, the file they are from, and the columns named by options."""

    rows: pd.DataFrame
    where: str
    columns: dict[str, str]
    notes: tuple[str, ...] = ()


def select_rows(table: Path, options: RowOptions, law: str = "hoffmann", by: str | None = None) -> Selection:
    """Read a table, or the points.csv of a sweep's folder, and keep the rows that the options choose; `law` has the designs."""
    from testbed.analysis.laws import find_law
    from testbed.points import (
        annealed_only,
        evaluation_rows,
        filter_rows,
        mapping_notes,
        read_table,
        with_units,
        without_target,
    )

    path = table / "points.csv" if table.is_dir() else table
    where = str(path)
    rows = read_table(path)
    columns = with_units(rows, options.named, options.units, where)
    if options.where is not None:
        rows = filter_rows(rows, options.where, where)
    rows = rows if options.with_target else without_target(rows, where)
    rows = rows if options.all_phases else annealed_only(rows, where)
    known = find_law(law)
    wanted = (*known.columns, known.response)
    evaluated = evaluation_rows(rows, wanted, columns, where)
    rows = evaluated.rows
    notes = (*mapping_notes(rows, wanted, columns, where), *filter(None, [evaluated.note]))
    if not options.best:
        return Selection(rows, where, columns, notes)
    from testbed.analysis.fit.best_rows import best_rows

    best = best_rows(law, rows, columns, where, by)
    return Selection(best.rows, where, columns, (*notes, *best.notes))


def pairs(values: Iterable[str] | None, option: str, shape: str) -> list[tuple[str, str]]:
    """Each NAME=VALUE of an option that may be repeated."""
    found = []
    for value in values or ():
        name, equals, rest = value.partition("=")
        if not (name and equals and rest):
            raise ConfigError(f"{option}: found {value!r}; accepted: {shape}")
        found.append((name.strip(), rest.strip()))
    return found


def numbers(values: Iterable[str] | None, option: str) -> dict[str, float]:
    """Each NAME=NUMBER of an option that may be repeated; a number may be a count such as 7B or 1.4T."""
    return {name: number(value, option) for name, value in pairs(values, option, "NAME=NUMBER")}


def number(value: str, option: str) -> float:
    """A number, or a count such as 7B."""
    from testbed.units import parse_count

    try:
        return float(value)
    except ValueError:
        pass
    try:
        return float(parse_count(value))
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def target_columns(params: str | None, tokens: str | None, others: list[str] | None) -> dict[str, float]:
    """The columns of one target that the options name."""
    named = {"n": (params, "--params"), "tokens": (tokens, "--tokens")}
    given = {name: number(value, option) for name, (value, option) in named.items() if value is not None}
    return given | numbers(others, "--set")


def allow_laws(*names: str) -> None:
    """Agree to import the modules of laws that an option names: the user typed them."""
    from testbed.registry import allow_code, names_code

    allow_code(*filter(names_code, names))
