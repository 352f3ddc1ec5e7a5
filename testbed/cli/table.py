"""The commands for a table of runs, anyone's: fit a law, compare laws, test one on what it had not seen, list them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from testbed.cli.output import AsJson, console, print_json, print_notes, print_table
from testbed.cli.rows import (
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
    check_level,
    choose,
    number,
    numbers,
)

if TYPE_CHECKING:
    from testbed.fit import Fit


def fit(
    table: TablePath,
    law: Annotated[str, typer.Option(help="the law; testbed laws lists them")] = "hoffmann",
    n: N = None,
    d: D = None,
    loss: LossColumn = None,
    run: Run = None,
    column: Other = None,
    where: Where = None,
    objective: Annotated[
        str | None, typer.Option(help="huber, lad, ls or huber-likelihood; the law's own if not given")
    ] = None,
    delta: Delta = 1e-3,
    space: Annotated[str | None, typer.Option(help="where residuals are taken: log or linear")] = None,
    replicates: Annotated[str, typer.Option(help="separate: every point; mean: the mean of the seeds")] = "separate",
    fix: Annotated[list[str] | None, typer.Option(metavar="NAME=NUMBER", help="hold a parameter at a value")] = None,
    bootstrap: Bootstrap = 1000,
    level: Level = 0.9,
    interval: Annotated[str, typer.Option(help="percentile, bca or profile")] = "percentile",
    seed: Seed = 0,
    with_target: WithTarget = False,
    all_phases: AllPhases = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FIT.json", help="write the fit")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a law to a table of runs, anyone's."""
    from testbed.fit import fit_law
    from testbed.fit.document import summary_dict, to_dict

    check_level(level)
    chosen = choose(table, n, d, loss, run, column, where, with_target, all_phases)
    fitted = fit_law(
        law,
        chosen.raw,
        columns=chosen.columns,
        loss=objective,  # type: ignore[arg-type]
        delta=delta,
        space=space,  # type: ignore[arg-type]
        replicates=replicates,  # type: ignore[arg-type]
        fixed=numbers(fix, "--fix"),
        n_boot=bootstrap,
        seed=seed,
        where=chosen.where,
    )
    findings = fitted.diagnostics(chosen.raw)
    bounds = fitted.conf_int(1 - level, interval)  # type: ignore[arg-type]
    notes = {
        "intervals": {name: [row.low, row.high] for name, row in bounds.iterrows()},
        "warnings": [finding.to_dict() for finding in findings],
    }
    if out is not None:
        from testbed.files import write_json

        write_json(out, to_dict(fitted, level) | notes)
    if as_json:
        print_json(summary_dict(fitted, level) | notes)
        return
    from testbed.report.tables import fit_table

    _print_law(fitted)
    print_table(fit_table(fitted, bounds, level))
    console.print(
        f"{fitted.nobs} points of {fitted.n_runs} runs, objective {fitted.objective:.9g} ({fitted.in_words})",
        markup=False,
    )
    print_notes(findings)
    if out is not None:
        console.print(f"written: {out}", markup=False)


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
    from testbed.fit.comparison import compare as compare_laws
    from testbed.fit.comparison import convention_table

    check_level(level)
    chosen = choose(table, n, d, loss, run, column, where, with_target, all_phases)
    names = tuple(name.strip() for name in laws.split(",") if name.strip())
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
    from testbed.report.tables import frame_table

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
    from testbed.fit.prediction import backtest as run_backtest

    check_level(level)
    chosen = choose(table, n, d, loss, run, column, where, with_target, all_phases)
    tested = run_backtest(
        law, chosen.raw, columns=chosen.columns, cuts=cuts, level=level, delta=delta, seed=seed, where=chosen.where
    )
    if as_json:
        print_json(tested.to_dict())
        return
    from testbed.report import words
    from testbed.report.tables import backtest_table

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
    from testbed.fit.approaches import side_by_side
    from testbed.report.tables import approaches_table

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


def laws(
    name: Annotated[str | None, typer.Argument(metavar="LAW", help="one law, with all that it needs")] = None,
    as_json: AsJson = False,
) -> None:
    """List the library of laws with their formulas and sources."""
    from testbed.laws import LAWS, find_law, plain_formula

    chosen = list(LAWS.values()) if name is None else [find_law(name)]
    if as_json:
        print_json([_law_facts(law) for law in chosen])
        return
    if name is not None:
        facts = _law_facts(chosen[0])
        console.print(f"[bold]{facts['name']}[/bold]  {facts['formula']}", soft_wrap=True)
        console.print(facts["about"], markup=False)
        for key in ("response", "columns", "params", "residuals", "source"):
            value = facts[key]
            console.print(f"{key}: {', '.join(value) if isinstance(value, list) else value}", markup=False)
        return
    table = Table("law", "formula", "columns", "source", box=None)
    for law in chosen:
        table.add_row(law.name, plain_formula(law), ", ".join(law.columns), law.source)
    console.print(table)


def target_columns(params: str | None, tokens: str | None, others: list[str] | None) -> dict[str, float]:
    """The columns of one target that the options name."""
    named = {"n": (params, "--params"), "tokens": (tokens, "--tokens")}
    given = {name: number(value, option) for name, (value, option) in named.items() if value is not None}
    return given | numbers(others, "--set")


def frame_rows(frame: Any) -> list[dict[str, Any]]:
    """A table's rows as JSON values, null where there is no number."""
    import json

    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return rows


def _law_facts(law: Any) -> dict[str, Any]:
    import inspect

    from testbed.laws import plain_formula

    return {
        "name": law.name,
        "formula": plain_formula(law),
        "latex": law.formula,
        "response": law.response,
        "columns": list(law.columns),
        "params": [p.name for p in law.parameters],
        "residuals": f"of the {'log ' if law.space == 'log' else ''}response",
        "source": law.source,
        "about": inspect.getdoc(law) or "",
    }


def _print_law(fitted: Fit) -> None:
    from testbed.laws import plain_formula

    law = fitted.law
    console.print(f"[bold]{law.name}[/bold]  {plain_formula(law)}  ({law.source})", soft_wrap=True)
    console.print(
        "columns: " + ", ".join(f"{part} = {column}" for part, column in fitted.columns.items()), markup=False
    )


COMMANDS = (fit, compare, backtest, approaches, laws)
