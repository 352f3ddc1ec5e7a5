"""The commands that hold a law against others, against larger runs, and against other ways to the optimum."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed.cli.output import AsJson, console, frame_rows, print_json, print_notes, print_table
from testbed.cli.table_options import (
    AllPhases,
    Bootstrap,
    D,
    Delta,
    Level,
    LossColumn,
    N,
    Other,
    Run,
    Seed,
    TablePath,
    Where,
    WithTarget,
    allow_laws,
    check_level,
    choose,
    number,
    target_columns,
)


def compare(
    table: TablePath,
    laws: Annotated[
        str, typer.Option(help="laws to compare, the default one first")
    ] = "hoffmann,hoffmann_tied,kaplan,coupled",
    params: Annotated[str | None, typer.Option(help="the target's parameters")] = None,
    tokens: Annotated[str | None, typer.Option(help="the target's tokens")] = None,
    at: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=NUMBER", help="any other column there")] = None,
    n: N = None,
    d: D = None,
    loss: LossColumn = None,
    run: Run = None,
    column: Other = None,
    where: Where = None,
    delta: Delta = 1e-3,
    level: Level = 0.9,
    seed: Seed = 0,
    with_target: WithTarget = False,
    all_phases: AllPhases = False,
    conventions: Annotated[
        bool, typer.Option("--conventions", help="show also what the ways of counting N and FLOPs move")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare laws by how they foretell the larger runs of a table from the smaller ones."""
    from testbed.analysis.fit.comparison import compare as compare_laws
    from testbed.analysis.fit.comparison import convention_table

    check_level(level)
    chosen = choose(table, n, d, loss, run, column, where, with_target, all_phases)
    names = tuple(name.strip() for name in laws.split(",") if name.strip())
    allow_laws(*names)
    target = target_columns(params, tokens, at) or None
    compared = compare_laws(
        names,
        chosen.raw,
        target=target,
        columns=chosen.columns,
        delta=delta,
        level=level,
        seed=seed,
        where=chosen.where,
    )
    counted = (
        convention_table(names[0], chosen.raw, columns=chosen.columns, where=chosen.where) if conventions else None
    )
    if as_json:
        print_json(compared.to_dict() | ({} if counted is None else {"conventions": frame_rows(counted)}))
        return
    from testbed.analysis.report.study.tables import frame_table

    print_table(frame_table(compared.table))
    for name, reason in compared.dropped.items():
        console.print(f"{name}: {reason}", markup=False)
    for sentence in compared.sentences():
        console.print(sentence, markup=False)
    print_notes(compared.warnings)
    if counted is not None:
        print_table(frame_table(counted))


def backtest(
    table: TablePath,
    law: Annotated[str, typer.Option(help="the law; testbed laws lists them")] = "hoffmann",
    cuts: Annotated[int, typer.Option(help="cuts in compute")] = 7,
    n: N = None,
    d: D = None,
    loss: LossColumn = None,
    run: Run = None,
    column: Other = None,
    where: Where = None,
    delta: Delta = 1e-3,
    level: Level = 0.9,
    seed: Seed = 0,
    with_target: WithTarget = False,
    all_phases: AllPhases = False,
    as_json: AsJson = False,
) -> None:
    """Forecast the larger runs of a table from the smaller ones: does the interval keep its promise?"""
    from testbed.analysis.fit.heldout import backtest as run_backtest

    check_level(level)
    allow_laws(law)
    chosen = choose(table, n, d, loss, run, column, where, with_target, all_phases)
    tested = run_backtest(
        law, chosen.raw, columns=chosen.columns, cuts=cuts, level=level, delta=delta, seed=seed, where=chosen.where
    )
    if as_json:
        print_json(tested.to_dict())
        return
    from testbed.analysis.report.study import sentences as words
    from testbed.analysis.report.study.tables import backtest_table

    print_table(backtest_table(tested))
    console.print(words.backtest_sentence(tested), markup=False)


def approaches(
    table: TablePath,
    flops: Annotated[
        list[str] | None, typer.Option("--flops", metavar="C", help="budgets of the IsoFLOP curves; found if not given")
    ] = None,
    law: Annotated[str, typer.Option(help="the law of approach 3, of n and tokens")] = "hoffmann",
    n: N = None,
    d: D = None,
    loss: LossColumn = None,
    run: Run = None,
    column: Other = None,
    where: Where = None,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    with_target: WithTarget = False,
    all_phases: AllPhases = False,
    as_json: AsJson = False,
) -> None:
    """The compute-optimal exponents by envelope, by IsoFLOP curves and by a fitted law, side by side."""
    from testbed.analysis.fit.approaches import side_by_side
    from testbed.analysis.report.study.tables import approaches_table

    allow_laws(law)
    chosen = choose(table, n, d, loss, run, column, where, with_target, all_phases)
    budgets = None if flops is None else [number(c, "--flops") for c in flops]
    found = side_by_side(
        chosen.raw, law=law, budgets=budgets, columns=chosen.columns, n_boot=bootstrap, seed=seed, where=chosen.where
    )
    if as_json:
        print_json({"approaches": frame_rows(found.table), "refused": found.refused})
        return
    print_table(approaches_table(found))
    for approach, reason in found.refused.items():
        console.print(f"{approach}: {reason}", markup=False)


COMMANDS = (compare, backtest, approaches)
