"""The command that suggests the next runs, and the power of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.given_options import refuse_options
from testbed.cli.option_groups import with_groups
from testbed.cli.output import AsJson, console, print_json, print_table
from testbed.cli.table_options import (
    ColumnOptions,
    Delta,
    Level,
    RowOptions,
    Where,
    allow_laws,
    number,
    numbers,
    select_rows,
    target_columns,
)
from testbed.errors import ConfigError

if TYPE_CHECKING:
    from testbed.analysis.design import Suggestions
    from testbed.analysis.design.power import Power
    from testbed.config import Config


@with_groups
def suggest(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(metavar="CONFIG|TABLE", help="a configuration (.toml), a study's folder, or a table of runs"),
    ],
    target: Annotated[
        str | None, typer.Option(metavar="N,D", help="parameters and tokens of the run to be predicted, as in 7B,1.4T")
    ] = None,
    params: Annotated[str | None, typer.Option(help="the target's parameters, instead of --target")] = None,
    tokens: Annotated[str | None, typer.Option(help="the target's tokens, instead of --target")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="FLOPS", help="training FLOPs to spend; a tenth of the target's if not given")
    ] = None,
    runs: Annotated[int, typer.Option(help="the most runs to suggest")] = 4,
    law: Annotated[str | None, typer.Option(help="the law; hoffmann, or the configuration's first")] = None,
    *,
    columns: ColumnOptions,
    where: Where = None,
    delta: Delta = 1e-3,
    level: Level = 0.9,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="for a CONFIG: change a key")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Suggest the next runs that narrow a target's interval most for their cost, and the interval to expect."""
    allow_laws(*([] if law is None else [law]))
    at = _target(target, params, tokens)
    spend = None if budget is None else number(budget, "--budget")
    notes: list[str]
    if path.suffix == ".toml" or (path.is_dir() and (path / "config.toml").exists()):
        from testbed.study.grid_design import suggest_for_study

        if columns.named or where is not None:
            raise ConfigError(f"{path}: --n, --d, --loss, --run and --where are for a TABLE")
        refuse_options(context, f"{path} has its own, forecast.delta; this one is for a TABLE", "delta")
        found, notes = suggest_for_study(path, overrides or [], at, law, spend, runs, level)
    else:
        from testbed.analysis.design import suggest_for_table

        if at is None:
            raise ConfigError("suggest: say what for: --target N,D such as --target 7B,1.4T (or --params N --tokens D)")
        if overrides:
            raise ConfigError(f"{path}: --set is for a CONFIG")
        chosen = select_rows(path, RowOptions(**vars(columns), where=where))
        found, notes = suggest_for_table(
            chosen.rows, chosen.columns, chosen.where, law or "hoffmann", delta, at, spend, runs, level
        )
    if as_json:
        print_json(found.to_dict() | {"notes": notes})
        return
    _print(found, notes)


def plan_power(config: Config, noise: str | None, truth: str | None, as_json: bool) -> None:
    """Print the power of a configuration's plan."""
    from testbed.study.grid_design import power_of

    found, notes = power_of(config, None if noise is None else number(noise, "--noise"), _truth(truth))
    if as_json:
        print_json(found.to_dict() | {"notes": notes})
        return
    _print_power(found, notes)


def _target(target: str | None, params: str | None, tokens: str | None) -> dict[str, float] | None:
    """The target's n and tokens, or None if no option gives them."""
    if target is not None:
        parts = target.split(",")
        if params is not None or tokens is not None or len(parts) != 2:
            raise ConfigError(
                f"--target: found {target!r}; accepted: N,D such as 7B,1.4T, or --params N --tokens D instead"
            )
        params, tokens = parts
    given = target_columns(params, tokens, None)
    if not given:
        return None
    for name, option in (("n", "--params"), ("tokens", "--tokens")):
        if name not in given:
            raise ConfigError(f"suggest: {option} is missing; a target has parameters and tokens")
        if not 0 < given[name] < float("inf"):
            raise ConfigError(f"{option}: found {given[name]:g}; accepted: a number above 0")
    return given


def _truth(text: str | None) -> tuple[str, dict[str, float]] | None:
    """A law's name and its parameters, from LAW:NAME=NUMBER,..."""
    if text is None:
        return None
    name, colon, rest = text.rpartition(":")
    if not colon:
        raise ConfigError(
            f"--truth: found {text!r}; accepted: LAW:NAME=NUMBER,... such as hoffmann:A=482,B=2085,E=1.82,alpha=.348,beta=.366"
        )
    allow_laws(name)
    return name, numbers(rest.split(","), "--truth")


def _print(found: Suggestions, notes: list[str]) -> None:
    from testbed.analysis.report.study.tables import TextTable
    from testbed.units import show_count

    for note in notes:
        console.say(note)
    level = f"{100 * found.level:.0f} %"
    at = f"{show_count(found.target['n'])} parameters on {show_count(found.target['tokens'])} tokens"
    now = f"±{100 * found.half_width:.2f} % ({level} interval)" if found.half_width < 1 else "almost nothing is known"
    value = "" if found.predicted is None else f" {found.predicted:.4f}"
    console.say(f"now: {at}:{value} {now}")
    rows = tuple(
        (
            show_count(run.n),
            ", ".join(show_count(tokens) for tokens in run.tokens),
            str(run.seeds),
            show_count(run.flops),
            f"±{100 * run.half_width:.2f} %",
        )
        for run in found.runs
    )
    print_table(TextTable(("N", "D", "seeds", "FLOPs", "expected after it"), rows))
    times = f", {found.after / found.half_width:.2f} times as wide as now" if found.half_width < 1 else ""
    console.say(
        f"{show_count(found.flops)} of {show_count(found.budget)} FLOPs: expected ±{100 * found.after:.2f} %{times}; the "
        f"noise of the target's own runs alone is ±{100 * found.least:.2f} %",
    )


def _print_power(found: Power, notes: list[str]) -> None:
    for line in (*notes, *found.sentences()):
        console.say(line)


COMMANDS = (suggest,)
