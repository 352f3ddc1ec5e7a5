"""What the commands on a table have in common: their options, and the rows that these choose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

TablePath = Annotated[
    Path, typer.Argument(metavar="TABLE", help="points: .csv, .parquet or .jsonl, or a sweep's folder")
]
N = Annotated[str | None, typer.Option("--n", metavar="COLUMN", help="the column of parameter counts")]
D = Annotated[str | None, typer.Option("--d", metavar="COLUMN", help="the column of training tokens")]
LossColumn = Annotated[str | None, typer.Option("--loss", metavar="COLUMN", help="the column of losses")]
Run = Annotated[str | None, typer.Option("--run", metavar="COLUMN", help="the column that names the run")]
Other = Annotated[
    list[str] | None, typer.Option("--column", metavar="NAME=COLUMN", help="the column of anything else a law needs")
]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="EXPR", help="only rows where this holds: \"n_params < 1e9 and data == 'c4'\""),
]
WithTarget = Annotated[bool, typer.Option("--with-target", help="use the losses of a study's target too")]
AllPhases = Annotated[bool, typer.Option("--all-phases", help="use losses that are not annealed too")]
Level = Annotated[float, typer.Option(help="level of the intervals")]
Bootstrap = Annotated[int, typer.Option(help="resamples of the runs")]
Seed = Annotated[int, typer.Option(help="seed of the resampling")]
Delta = Annotated[float, typer.Option(help="Huber width")]


@dataclass(frozen=True)
class Chosen:
    """The rows that a command works on, where they are from, and the columns that were named for them."""

    raw: pd.DataFrame
    where: str
    columns: dict[str, str]


def choose(
    table: Path,
    n: str | None,
    d: str | None,
    loss: str | None,
    run: str | None,
    other: list[str] | None,
    expression: str | None,
    with_target: bool,
    all_phases: bool,
) -> Chosen:
    """Read the table and keep the rows that the options name."""
    from testbed.points import annealed_only, filter_rows, read_table, without_target

    path = table / "points.csv" if table.is_dir() else table
    where = str(path)
    raw = read_table(path)
    if expression is not None:
        raw = filter_rows(raw, expression, where)
    raw = raw if with_target else without_target(raw, where)
    raw = raw if all_phases else annealed_only(raw, where)
    named = {"n": n, "tokens": d, "loss": loss, "run": run}
    given = {name: column for name, column in named.items() if column is not None}
    return Chosen(raw, where, given | dict(pairs(other, "--column", "NAME=COLUMN")))


def pairs(values: Iterable[str] | None, option: str, shape: str) -> list[tuple[str, str]]:
    """Each NAME=VALUE of an option that may be given several times."""
    found = []
    for value in values or ():
        name, equals, rest = value.partition("=")
        if not (name and equals and rest):
            raise ConfigError(f"{option}: found {value!r}; accepted: {shape}")
        found.append((name.strip(), rest.strip()))
    return found


def numbers(values: Iterable[str] | None, option: str) -> dict[str, float]:
    """Each NAME=NUMBER of an option that may be given several times; counts as 7B or 1.4T."""
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
    """Laws that an option names are the user's own words: their modules may be imported."""
    from testbed.registry import allow_code, names_code

    allow_code(*filter(names_code, names))


def check_level(level: float) -> None:
    """ConfigError unless between 0 and 1."""
    if not 0 < level < 1:
        raise ConfigError(f"--level: found {level:g}; accepted: above 0 and below 1")
