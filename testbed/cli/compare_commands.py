"""The commands that compare laws, test forecasts on larger runs, and compare ways to find the compute optimum."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed.cli.option_groups import with_groups
from testbed.cli.output import AsJson, console, frame_rows, print_json, print_notes, print_table, print_warnings
from testbed.cli.table_options import (
    Bootstrap,
    Delta,
    Law,
    Level,
    RowOptions,
    Seed,
    TablePath,
    allow_laws,
    number,
    select_rows,
    target_columns,
)


@with_groups
def compare(
    table: TablePath,
    laws: Annotated[
        str, typer.Option(help="laws to compare, the default one first")
    ] = "hoffmann,hoffmann_tied,kaplan,coupled",
    params: Annotated[str | None, typer.Option(help="the target's parameters")] = None,
    tokens: Annotated[str | None, typer.Option(help="the target's tokens")] = None,
    at: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=NUMBER", help="any other column there")] = None,
    *,
    options: RowOptions,
    delta: Delta = 1e-3,
    level: Level = 0.9,
    seed: Seed = 0,
    conventions: Annotated[
        bool,
        typer.Option("--conventions", help="also show how the results change with the way N and FLOPs are counted"),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare laws by how well they forecast the larger runs of a table from the smaller ones."""
    from testbed.analysis.fit.comparison import compare as compare_laws
    from testbed.analysis.fit.comparison import convention_table

    names = tuple(name.strip() for name in laws.split(",") if name.strip())
    allow_laws(*names)
    chosen = select_rows(table, options, names[0] if names else "hoffmann")
    target = target_columns(params, tokens, at) or None
    compared = compare_laws(
        names,
        chosen.rows,
        target=target,
        columns=chosen.columns,
        delta=delta,
        level=level,
        seed=seed,
        where=chosen.where,
    )
    counted = (
        convention_table(names[0], chosen.rows, columns=chosen.columns, where=chosen.where) if conventions else None
    )
    if as_json:
        print_json(compared.to_dict() | ({} if counted is None else {"conventions": frame_rows(counted)}))
        return
    from testbed.analysis.report.study.tables import frame_table

    print_notes(chosen.notes)
    print_table(frame_table(compared.table))
    for name, reason in compared.dropped.items():
        console.say(f"{name}: {reason}")
    for sentence in compared.sentences():
        console.say(sentence)
    print_warnings(compared.warnings)
    if counted is not None:
        print_table(frame_table(counted))


@with_groups
def backtest(
    table: TablePath,
    law: Law = "hoffmann",
    cuts: Annotated[int, typer.Option(help="cuts in compute")] = 7,
    *,
    options: RowOptions,
    delta: Delta = 1e-3,
    level: Level = 0.9,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Forecast the larger runs of a table from the smaller ones: how often does the interval hold the loss?"""
    from testbed.analysis.fit.heldout import backtest as run_backtest

    allow_laws(law)
    chosen = select_rows(table, options, law)
    tested = run_backtest(
        law, chosen.rows, columns=chosen.columns, cuts=cuts, level=level, delta=delta, seed=seed, where=chosen.where
    )
    if as_json:
        print_json(tested.to_dict())
        return
    from testbed.analysis.report.study import sentences as words
    from testbed.analysis.report.study.tables import backtest_table

    print_notes(chosen.notes)
    print_table(backtest_table(tested))
    console.say(words.backtest_sentence(tested))
    print_warnings(tested.warnings)


@with_groups
def approaches(
    table: TablePath,
    flops: Annotated[
        list[str] | None, typer.Option("--flops", metavar="C", help="budgets of the IsoFLOP curves; found if not given")
    ] = None,
    law: Annotated[str, typer.Option(help="the law of approach 3, in n and tokens")] = "hoffmann",
    *,
    options: RowOptions,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Estimate the compute-optimal exponents by envelope, by IsoFLOP curves and by a fitted law."""
    from testbed.analysis.fit.approaches import side_by_side
    from testbed.analysis.report.study.tables import approaches_table

    allow_laws(law)
    chosen = select_rows(table, options, law)
    budgets = None if flops is None else [number(c, "--flops") for c in flops]
    found = side_by_side(
        chosen.rows, law=law, budgets=budgets, columns=chosen.columns, n_boot=bootstrap, seed=seed, where=chosen.where
    )
    if as_json:
        warnings = [finding.to_dict() for finding in found.warnings]
        print_json({"approaches": frame_rows(found.table), "refused": found.refused, "warnings": warnings})
        return
    print_notes((*chosen.notes, *found.notes))
    print_table(approaches_table(found))
    for approach, reason in found.refused.items():
        console.say(f"{approach}: {reason}")
    print_warnings(found.warnings)


COMMANDS = (compare, backtest, approaches)
