"""The command line: parse, call one function, print.

Exit codes: 0 the command did its work; 1 the forecast missed (with --strict); 2 the user's mistake;
3 a run failed; 130 interrupted, to be gone on with.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table as RichTable

from testbed import __version__
from testbed.config import Config, load_config
from testbed.errors import TestbedError

if TYPE_CHECKING:
    from testbed.records import Role
    from testbed.report.tables import Table
    from testbed.study import Study

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train a family of small language models, fit a scaling law, seal a forecast, train the target, judge.",
)
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="a configuration, such as configs/quick.toml")]
FolderPath = Annotated[Path, typer.Argument(metavar="FOLDER", help="a sweep's folder, such as runs/quick")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a key, as in --set train.lr=0.003")
]
Out = Annotated[Path | None, typer.Option(help="the sweep's folder; runs/NAME if not given")]
Device = Annotated[str | None, typer.Option(help='"auto", "cpu" or "cuda"')]
Workers = Annotated[int | None, typer.Option(help="worker processes; one a core or a GPU if not given")]
Retry = Annotated[bool, typer.Option("--retry-failed", help="try failed runs again")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def main() -> NoReturn:
    """Run the command line; mistakes are told in one message, without a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)
    except TestbedError as error:
        errors.print("[bold red]error:[/bold red] ", end="")
        errors.print(str(error), markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        errors.print(
            "interrupted; every run at work has written its checkpoint, and the same command goes on from there"
        )
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            errors.print(f"error: {error.format_message()}", markup=False)
            sys.exit(2)
        raise
    sys.exit(code if isinstance(code, int) else 0)


@app.command()
def plan(
    config: ConfigPath,
    overrides: Overrides = None,
    device: Device = None,
    workers: Workers = None,
    calibrate: Annotated[bool, typer.Option(help="measure the speed of each shape for the estimated times")] = True,
    as_json: AsJson = False,
) -> None:
    """Print every run with its cost and what is poor about the design; starts nothing."""
    from testbed.estimate import estimate
    from testbed.report.tables import plan_table

    settings = _load(config, overrides, device, workers)
    made = estimate(settings, calibrate)
    if as_json:
        _print_json(made.as_json())
        return
    console.print(f"[bold]{settings.name}[/bold]: {len(made.plan.grid)} grid runs, {len(made.plan.target)} target runs")
    _print_table(plan_table(made.plan.runs, made.run_seconds))
    for line in made.sentences():
        console.print(line, markup=False)
    for warning in made.plan.warnings:
        console.print(f"[yellow]design:[/yellow] {warning}")


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    out: Out = None,
    device: Device = None,
    workers: Workers = None,
    retry_failed: Retry = False,
    strict: Annotated[bool, typer.Option("--strict", help="exit with 1 if the forecast's interval misses")] = False,
) -> None:
    """The whole loop: plan, train the grid, fit, seal, train the target, judge, report. Repeat it to go on."""
    from testbed.report import words
    from testbed.study import Study

    study = Study.create(_load(config, overrides, device, workers), out)
    _train(study, "grid", retry_failed)
    if not study.target:
        page = study.report()
        console.print(f"no target in the configuration; the page is [bold]{page}[/bold]")
        return
    forecast = study.seal()
    console.print(f"sealed {study.folder.forecast_path}  {forecast.digest[:16]}", markup=False)
    console.print(words.forecast_sentence(forecast), markup=False)
    _train(study, "target", retry_failed)
    verdict = study.judge()
    page = study.report()
    _print_verdict(study)
    console.print(f"page: [bold]{page}[/bold]", soft_wrap=True)
    if strict and not verdict.hit:
        raise typer.Exit(1)


@app.command()
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    out: Out = None,
    device: Device = None,
    workers: Workers = None,
    retry_failed: Retry = False,
    target: Annotated[
        bool, typer.Option("--target", help="the target instead of the grid; its forecast has to be sealed")
    ] = False,
) -> None:
    """Train the grid (or the sealed target) of a configuration or a sweep's folder, and stop there."""
    from testbed.study import Study

    if config.is_dir():
        study = Study.open(config).executed_with(device, workers)
    else:
        study = Study.create(_load(config, overrides, device, workers), out)
    _train(study, "target" if target else "grid", retry_failed)
    console.print(f"done; next: testbed {'validate' if target else 'predict'} {study.folder.path}", markup=False)


@app.command()
def predict(folder: FolderPath, as_json: AsJson = False) -> None:
    """Fit the grid and seal the forecast for the target; a sealed forecast is shown, never rewritten."""
    from testbed.records import as_json as record_json
    from testbed.report import words
    from testbed.study import Study

    study = Study.open(folder)
    old = study.folder.has_forecast()
    forecast = study.seal()
    if as_json:
        _print_json(record_json(forecast))
        return
    console.print(
        f"{'sealed before' if old else 'sealed now'}: {study.folder.forecast_path}  {forecast.digest[:16]}",
        markup=False,
    )
    console.print(words.forecast_sentence(forecast), markup=False)
    if forecast.after_the_fact:
        console.print(f"[yellow]{words.AFTER_THE_FACT}[/yellow]")


@app.command()
def validate(
    folder: FolderPath,
    strict: Annotated[bool, typer.Option("--strict", help="exit with 1 if the forecast's interval misses")] = False,
    as_json: AsJson = False,
) -> None:
    """Hold the sealed forecast against the target's runs."""
    from testbed.records import as_json as record_json
    from testbed.study import Study

    study = Study.open(folder)
    verdict = study.judge()
    if as_json:
        _print_json(record_json(verdict))
    else:
        _print_verdict(study)
    if strict and not verdict.hit:
        raise typer.Exit(1)


@app.command()
def report(folder: FolderPath) -> None:
    """Make the page and its figures from whatever there is so far."""
    from testbed.study import Study

    console.print(str(Study.open(folder).report()), markup=False, soft_wrap=True)


@app.command()
def status(folder: FolderPath, as_json: AsJson = False) -> None:
    """How each run stands: done, running, paused, failed, to do."""
    from testbed.store import SweepFolder

    sweep = SweepFolder.open(folder)
    states = {spec.run_id: sweep.run(spec).state() for spec in sweep.specs}
    counts = {state: list(states.values()).count(state) for state in ("done", "running", "paused", "failed", "to do")}
    reasons = {spec.run_id: f.reason for spec in sweep.specs if (f := sweep.run(spec).failure())}
    if as_json:
        _print_json({"counts": counts, "runs": states, "failures": reasons, "sealed": sweep.has_forecast()})
        return
    table = RichTable("run", "role", "state", "last loss", box=None)
    for spec in sweep.specs:
        evals = sweep.run(spec).evals()
        last = f"{evals[-1].loss:.4f} {evals[-1].phase}" if evals else ""
        table.add_row(spec.run_id, spec.role, states[spec.run_id], last)
    console.print(table)
    console.print(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    for run_id, reason in reasons.items():
        console.print(f"{run_id} failed: {reason}", markup=False)
    console.print(f"forecast {'sealed' if sweep.has_forecast() else 'not sealed yet'}")


@app.command()
def points(
    folder: FolderPath,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="a .csv, .parquet or .jsonl file; FOLDER/points.csv if not given")
    ] = None,
) -> None:
    """Write the points table of the finished runs: one row a loss."""
    from testbed.points import write_table
    from testbed.store import SweepFolder
    from testbed.store.table import sweep_points

    table = sweep_points(SweepFolder.open(folder))
    path = out or folder / "points.csv"
    write_table(table, path)
    console.print(f"{len(table)} points of {table['run'].nunique()} runs in {path}", markup=False, soft_wrap=True)


@app.command()
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
    bootstrap: Annotated[int, typer.Option(help="resamples of the runs")] = 400,
    level: Annotated[float, typer.Option(help="level of the intervals")] = 0.9,
    seed: Annotated[int, typer.Option(help="seed of the resampling")] = 0,
    all_phases: Annotated[bool, typer.Option("--all-phases", help="fit losses that are not annealed too")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the fit as JSON")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a law to a table of runs, anyone's."""
    from testbed.fit import fit_law
    from testbed.laws import find_law
    from testbed.points import Columns, annealed_only, fit_columns, map_columns, read_table

    if not 0 < level < 1 or delta <= 0 or bootstrap < 20:
        raise TestbedError("accepted: --level between 0 and 1, --delta above 0, --bootstrap at least 20")
    chosen = find_law(law)
    path = table / "points.csv" if table.is_dir() else table
    raw = read_table(path)
    mapping = map_columns(raw, Columns(n, d, loss, run), str(path))
    kept = raw if all_phases else annealed_only(raw, str(path))
    fitted = fit_law(chosen, fit_columns(kept, mapping, str(path)), delta, n_boot=bootstrap, seed=seed)
    result = fitted.to_dict(level) | {"columns": mapping}
    if out is not None:
        from testbed.files import write_json

        write_json(out, result)
    if as_json:
        _print_json(result)
        return
    from testbed.report.tables import fit_table

    console.print(f"[bold]{chosen.name}[/bold]  {chosen.formula}  ({chosen.source})", soft_wrap=True)
    console.print("columns: " + ", ".join(f"{part} = {column}" for part, column in mapping.items()), markup=False)
    _print_table(fit_table(fitted, level))
    console.print(
        f"{fitted.nobs} points of {fitted.n_runs} runs, objective {fitted.objective:.9g} (sum of Huber, delta {delta:g})"
    )
    for name in fitted.at_zero:
        console.print(f"[yellow]{name} ended at 0, the edge of its domain: the data do not show it[/yellow]")
    if not fitted.converged:
        console.print("[yellow]the search did not converge; the parameters are not an optimum[/yellow]")


@app.command()
def laws() -> None:
    """List the library of laws with their formulas and sources."""
    from testbed.laws import LAWS

    table = RichTable("law", "formula", "source", box=None)
    for law in LAWS.values():
        table.add_row(law.name, law.formula, law.source)
    console.print(table)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    """Train a family of small language models, fit a scaling law, seal a forecast, train the target, judge."""
    if show:
        console.print(f"testbed {__version__}")
        raise typer.Exit


def _load(path: Path, overrides: list[str] | None, device: str | None, workers: int | None) -> Config:
    changes = list(overrides or [])
    changes += [f'execution.device="{device}"'] if device is not None else []
    changes += [f"execution.workers={workers}"] if workers is not None else []
    return load_config(path, changes)


def _train(study: Study, role: Role, retry_failed: bool) -> None:
    from testbed.display import progress

    with progress(study.folder.of_role(role), f"training the {role}", console) as watcher:
        study.train(role, watcher, retry_failed)


def _print_verdict(study: Study) -> None:
    from testbed.report import words
    from testbed.report.tables import forecast_table

    forecast, verdict = study.folder.forecast(), study.folder.verdict()
    assert verdict is not None
    _print_table(forecast_table(forecast, verdict))
    colour = "green" if verdict.hit else "red"
    console.print(f"[bold {colour}]{'inside' if verdict.hit else 'OUTSIDE'}[/bold {colour}]  ", end="")
    console.print(words.verdict_sentence(verdict), markup=False)
    if forecast.after_the_fact:
        console.print(f"[yellow]{words.AFTER_THE_FACT}[/yellow]")
    entropy = words.entropy_sentence(forecast, verdict.true_entropy, verdict.entropy_held)
    if entropy:
        console.print(entropy, markup=False)


def _print_table(table: Table) -> None:
    shown = RichTable(*table.titles, box=None, padding=(0, 2, 0, 0))
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
