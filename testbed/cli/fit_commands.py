"""The command that fits a law to a table of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.given_options import refuse_options
from testbed.cli.group_fits import Asked, print_groups
from testbed.cli.option_groups import with_groups
from testbed.cli.output import AsJson, console, print_json, print_notes, print_table, print_warnings
from testbed.cli.table_options import (
    Bootstrap,
    Delta,
    Law,
    Level,
    RowOptions,
    Seed,
    TablePath,
    allow_laws,
    numbers,
    select_rows,
)

if TYPE_CHECKING:
    import pandas as pd

    from testbed.analysis.fit import Fit


@with_groups
def fit(
    context: typer.Context,
    table: TablePath,
    law: Law = "hoffmann",
    *,
    options: RowOptions,
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
    by: Annotated[
        str | None, typer.Option("--by", metavar="COLUMN", help="a fit for each value of this column, in one table")
    ] = None,
    share: Annotated[
        str | None,
        typer.Option("--share", metavar="NAMES", help="with --by: parameters that the groups share, as in alpha,beta"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FIT.json", help="write the fit")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a law to a table of runs."""
    from testbed.analysis.fit import fit_law
    from testbed.analysis.fit.document import ends, summary_dict, to_dict
    from testbed.files import write_json

    allow_laws(law)
    if objective in ("lad", "ls"):
        refuse_options(context, f"--objective {objective} has no Huber width; leave it out", "delta")
    chosen = select_rows(table, options, law, by)
    ways: dict[str, Any] = {
        "columns": chosen.columns,
        "loss": objective,
        "delta": delta,
        "space": space,
        "replicates": replicates,
        "fixed": numbers(fix, "--fix"),
        "n_boot": bootstrap,
        "seed": seed,
        "where": chosen.where,
    }
    if by is not None or share is not None:
        print_groups(law, chosen, by, share, ways, Asked(level, interval, out, as_json))
        return
    fitted = fit_law(law, chosen.rows, **ways)
    findings = fitted.diagnostics(chosen.rows)
    bounds = fitted.conf_int(1 - level, interval)  # type: ignore[arg-type]
    notes = {
        "intervals": ends(bounds),
        "warnings": [finding.to_dict() for finding in findings],
    }
    if out is not None:
        write_json(out, to_dict(fitted, level) | notes)
    if as_json:
        print_json(summary_dict(fitted, level) | notes)
        return
    print_notes(chosen.notes)
    _print_fit(fitted, bounds, level)
    print_warnings(findings)
    if out is not None:
        console.say(f"written: {out}")


def _print_fit(fitted: Fit, bounds: pd.DataFrame, level: float) -> None:
    from testbed.analysis.laws import plain_formula
    from testbed.analysis.report.study.tables import fit_table

    law = fitted.law
    console.say((law.name, "bold"), f"  {plain_formula(law)}  ({law.source})")
    console.say("columns: " + ", ".join(f"{part} = {column}" for part, column in fitted.columns.items()))
    print_table(fit_table(fitted, bounds, level))
    console.say(f"{fitted.nobs} points of {fitted.n_runs} runs, objective {fitted.objective:.9g} ({fitted.in_words})")


COMMANDS = (fit,)
