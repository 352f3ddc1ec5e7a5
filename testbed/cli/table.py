"""The commands for a table of runs, anyone's: fit a law, list the laws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from testbed.cli.output import AsJson, console, print_json, print_table
from testbed.errors import TestbedError


def fit(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="points: .csv, .parquet or .jsonl, or a sweep's folder")
    ],
    law: Annotated[str, typer.Option(help="the law; testbed laws lists them")] = "hoffmann",
    n: Annotated[str | None, typer.Option(metavar="COLUMN", help="the column of parameter counts")] = None,
    d: Annotated[str | None, typer.Option(metavar="COLUMN", help="the column of training tokens")] = None,
    loss: Annotated[str | None, typer.Option(metavar="COLUMN", help="the column of losses")] = None,
    run: Annotated[str | None, typer.Option(metavar="COLUMN", help="the column that names the run")] = None,
    delta: Annotated[float, typer.Option(help="Huber width on log loss")] = 1e-3,
    bootstrap: Annotated[int, typer.Option(help="resamples of the runs")] = 200,
    level: Annotated[float, typer.Option(help="level of the intervals")] = 0.9,
    seed: Annotated[int, typer.Option(help="seed of the resampling")] = 0,
    with_target: Annotated[bool, typer.Option("--with-target", help="fit the losses of a study's target too")] = False,
    all_phases: Annotated[bool, typer.Option("--all-phases", help="fit losses that are not annealed too")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the fit as JSON")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a law to a table of runs, anyone's."""
    from testbed.fit import fit_law
    from testbed.laws import find_law, plain_formula
    from testbed.points import annealed_only, fit_columns, map_columns, read_table, without_target

    if not 0 < level < 1 or delta <= 0 or bootstrap < 20:
        raise TestbedError("accepted: --level between 0 and 1, --delta above 0, --bootstrap at least 20")
    chosen = find_law(law)
    path = table / "points.csv" if table.is_dir() else table
    raw = read_table(path)
    mapping = map_columns(raw, ("n", "tokens", "loss"), {"n": n, "tokens": d, "loss": loss, "run": run}, str(path))
    kept = raw if with_target else without_target(raw)
    kept = kept if all_phases else annealed_only(kept, str(path))
    fitted = fit_law(chosen, fit_columns(kept, mapping, str(path)), delta, n_boot=bootstrap, seed=seed)
    result = fitted.to_dict(level) | {"columns": mapping}
    if out is not None:
        from testbed.files import write_json

        write_json(out, result)
    if as_json:
        print_json(result)
        return
    from testbed.report.tables import fit_table

    console.print(f"[bold]{chosen.name}[/bold]  {plain_formula(chosen)}  ({chosen.source})", soft_wrap=True)
    console.print("columns: " + ", ".join(f"{part} = {column}" for part, column in mapping.items()), markup=False)
    print_table(fit_table(fitted, level))
    console.print(
        f"{fitted.nobs} points of {fitted.n_runs} runs, objective {fitted.objective:.9g} (sum of Huber, delta {delta:g})"
    )
    for name in fitted.at_zero:
        console.print(f"[yellow]{name} ended at 0, the edge of its domain: the data do not show it[/yellow]")
    if not fitted.converged:
        console.print("[yellow]the search did not converge; the parameters are not an optimum[/yellow]")


def laws() -> None:
    """List the library of laws with their formulas and sources."""
    from testbed.laws import LAWS, plain_formula

    table = Table("law", "formula", "source", box=None)
    for law in LAWS.values():
        table.add_row(law.name, plain_formula(law), law.source)
    console.print(table)


COMMANDS = (fit, laws)
