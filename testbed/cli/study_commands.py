"""The commands of a study: plan, train, seal, train the target, judge, report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.design_commands import plan_power
from testbed.cli.given_options import refuse_options
from testbed.cli.output import AsJson, console, print_json, print_table, print_verdict
from testbed.cli.predict_commands import predict_from
from testbed.cli.table_options import Level, target_columns
from testbed.errors import ConfigError, RunFailed

if TYPE_CHECKING:
    from testbed.config import Config
    from testbed.records import Role
    from testbed.study import Study

ConfigPath = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="a configuration file, or the name of a built-in one: quick")
]
FolderPath = Annotated[Path, typer.Argument(metavar="FOLDER", help="a sweep's folder, such as runs/quick")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a key, as in --set train.lr=0.003")
]
Out = Annotated[Path | None, typer.Option(help="the sweep's folder; runs/NAME if not given")]
Device = Annotated[str | None, typer.Option(help='"auto", "cpu" or "cuda"')]
Workers = Annotated[int | None, typer.Option(help="worker processes; one a core or a GPU if not given")]
ExecutorName = Annotated[
    str | None, typer.Option("--executor", metavar="NAME", help='where runs are trained: "local", "slurm" or "ray"')
]
Retry = Annotated[bool, typer.Option("--retry-failed", help="try failed runs again")]
WithoutFailed = Annotated[
    bool, typer.Option("--without-failed", help="fit without the cells of grid runs that failed, and say so")
]


def plan(
    context: typer.Context,
    config: ConfigPath,
    overrides: Overrides = None,
    device: Device = None,
    workers: Workers = None,
    calibrate: Annotated[bool, typer.Option(help="measure the speed of each shape for the estimated times")] = True,
    power: Annotated[
        bool, typer.Option("--power", help="print instead the power of this grid, by simulated studies")
    ] = False,
    noise: Annotated[
        str | None, typer.Option(help="with --power: relative noise of a loss, as .003; as measured if not given")
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(metavar="LAW:NAME=NUMBER,...", help="with --power: the law that holds; the prior if not given"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print every run with its cost, and weaknesses of the design; starts nothing."""
    settings = load_settings(config, overrides, device, workers)
    if power:
        nothing = "--power simulates studies and trains nothing; leave it out"
        refuse_options(context, nothing, "device", "workers", "calibrate")
        plan_power(settings, noise, truth, as_json)
        return
    refuse_options(context, "is about the power of the grid; add --power", "noise", "truth")
    from testbed.analysis.report.study.tables import plan_table
    from testbed.study.costs import estimate_costs

    made = estimate_costs(settings, calibrate)
    if as_json:
        print_json(made.as_json())
        return
    console.say((settings.name, "bold"), f": {len(made.plan.grid)} grid runs, {len(made.plan.target)} target runs")
    print_table(plan_table(made.plan.runs, made.run_memory, made.timetable.run_seconds if made.timetable else None))
    for line in made.sentences():
        console.say(line)
    for warning in made.plan.warnings:
        console.say(("design:", "yellow"), f" {warning}", indent=2)


def run(
    context: typer.Context,
    config: ConfigPath,
    overrides: Overrides = None,
    out: Out = None,
    device: Device = None,
    workers: Workers = None,
    executor: ExecutorName = None,
    retry_failed: Retry = False,
    without_failed: WithoutFailed = False,
    strict: Annotated[bool, typer.Option("--strict", help="exit with 1 if the forecast's interval misses")] = False,
) -> None:
    """Plan, train the grid, fit, seal, train the target, judge, report. Repeat the command to resume."""
    from testbed.analysis.report.study import sentences as words
    from testbed.study import Study

    settings = load_settings(config, overrides, device, workers, executor)
    if settings.target is None:
        refuse_options(context, f"{config} has no [target], so there is no forecast to miss; leave it out", "strict")
    study = Study.create(settings, out)
    _train(study, "grid", retry_failed, without_failed)
    if not study.target:
        page = study.report()
        console.say("no target in the configuration; page: ", (str(page), "bold"))
        return
    forecast = study.seal(without_failed)
    console.say(f"sealed {study.folder.forecast_path}  {forecast.digest[:16]}")
    console.say(words.forecast_sentence(forecast))
    _train(study, "target", retry_failed)
    verdict = study.judge()
    print_verdict(study)
    page = study.report()
    console.say("page: ", (str(page), "bold"))
    if strict and not verdict.hit:
        raise typer.Exit(1)


def train(
    context: typer.Context,
    config: ConfigPath,
    overrides: Overrides = None,
    out: Out = None,
    device: Device = None,
    workers: Workers = None,
    executor: ExecutorName = None,
    retry_failed: Retry = False,
    target: Annotated[
        bool, typer.Option("--target", help="train the target, not the grid; its forecast must be sealed")
    ] = False,
) -> None:
    """Train the grid (or the sealed target) of a configuration or a sweep's folder, and stop there."""
    from testbed.study import Study

    if config.is_dir():
        settled = f"the configuration and the folder of {config} are settled; --set and --out are for a CONFIG"
        refuse_options(context, settled, "overrides", "out")
        study = Study.open(config).executed_with(device, workers, executor)
    else:
        study = Study.create(load_settings(config, overrides, device, workers, executor), out)
    _train(study, "target" if target else "grid", retry_failed)
    step = "validate" if target else "predict" if study.target else "report"
    console.say(f"done; next: testbed {step} {study.folder.path}")


def predict(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="a study's folder, or what testbed fit -o FIT.json wrote")
    ],
    params: Annotated[str | None, typer.Option(help="for a fit: the run's parameters")] = None,
    tokens: Annotated[str | None, typer.Option(help="for a fit: the run's tokens")] = None,
    others: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=NUMBER", help="for a fit: any other column of its law")
    ] = None,
    at: Annotated[Path | None, typer.Option(metavar="TABLE", help="for a fit: a table of runs to predict")] = None,
    level: Level = 0.9,
    seeds: Annotated[int, typer.Option(help="for a fit: number of runs whose mean is predicted")] = 1,
    without_failed: WithoutFailed = False,
    as_json: AsJson = False,
) -> None:
    """Seal a study's forecast for its target, or show the sealed one. For a fit: predict runs, with intervals."""
    of_a_run = target_columns(params, tokens, others)
    if path.suffix == ".json" and not path.is_dir():
        refuse_options(context, f"{path} is a fit; leaving out failed runs is for a study's folder", "without_failed")
        predict_from(path, of_a_run, at, level, seeds, as_json)
        return
    if of_a_run or at is not None:
        raise ConfigError(
            f"{path}: a study forecasts its own target; --params, --tokens, --set and --at are for a FIT.json"
        )
    sealed = f"a study's forecast has the level and the seeds of its configuration ({path}); these are for a FIT.json"
    refuse_options(context, sealed, "level", "seeds")
    from testbed.analysis.report.study import sentences as words
    from testbed.records import as_json as record_json
    from testbed.study import Study

    study = Study.open(path)
    old = study.folder.has_forecast()
    forecast = study.seal(without_failed)
    if as_json:
        print_json(record_json(forecast))
        return
    console.say(
        f"{'sealed before' if old else 'sealed now'}: {study.folder.forecast_path}  {forecast.digest[:16]}",
    )
    console.say(words.forecast_sentence(forecast))


def validate(
    folder: FolderPath,
    strict: Annotated[bool, typer.Option("--strict", help="exit with 1 if the forecast's interval misses")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the sealed forecast with the target's losses."""
    from testbed.records import as_json as record_json
    from testbed.study import Study

    study = Study.open(folder)
    verdict = study.judge()
    if as_json:
        print_json(record_json(verdict))
    else:
        print_verdict(study)
    if strict and not verdict.hit:
        raise typer.Exit(1)


def report(folder: FolderPath) -> None:
    """Write the page and its figures from the results so far."""
    from testbed.study import Study

    console.say(str(Study.open(folder).report()))


def status(
    folder: FolderPath,
    every: Annotated[bool, typer.Option("--all", help="a row for every run, however many there are")] = False,
    as_json: AsJson = False,
) -> None:
    """Show each run: done, running, paused, failed, to do. Of many runs: totals, and those running, paused or failed."""
    from testbed.cli.budget_lines import budget_json, print_budget
    from testbed.cli.status_table import STATES, print_status
    from testbed.training.store import SweepFolder
    from testbed.training.store.ledger import Ledger

    sweep = SweepFolder.open(folder)
    runs = {run.path.name: run for run in map(sweep.run, sweep.specs)}
    states = {run_id: run.state() for run_id, run in runs.items()}
    counts = {state: list(states.values()).count(state) for state in STATES}
    ledger = Ledger.of_runs(runs.values(), sweep.timetable(), states)
    if as_json:
        reasons = {run_id: f.reason for run_id, run in runs.items() if (f := run.failure())}
        facts = {"counts": counts, "runs": states, "failures": reasons, "sealed": sweep.has_forecast()}
        facts["notices"] = {run_id: [n.message for n in run.notices()] for run_id, run in runs.items() if run.notices()}
        facts["retries"] = {run_id: run.spec.retry_of for run_id, run in runs.items() if run.spec.retry_of}
        print_json(facts | budget_json(ledger, sweep.config.budget))
        return
    print_status(runs, states, every)
    console.say(", ".join(f"{count:,} {state}" for state, count in counts.items() if count))
    print_budget(ledger, sweep.config.budget)
    console.say(f"forecast {'sealed' if sweep.has_forecast() else 'not sealed yet'}")


def points(
    folder: FolderPath,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="a .csv, .parquet or .jsonl file; FOLDER/points.csv if not given")
    ] = None,
) -> None:
    """Write the points table of the finished runs: one row per loss."""
    from testbed.points import write_table
    from testbed.training.store import SweepFolder
    from testbed.training.store.sweep_points import sweep_points

    table = sweep_points(SweepFolder.open(folder))
    path = out or folder / "points.csv"
    write_table(table, path)
    console.say(f"{len(table)} points of {table['run'].nunique()} runs in {path}")


def load_settings(
    path: Path, overrides: list[str] | None, device: str | None, workers: int | None, executor: str | None = None
) -> Config:
    """The configuration in a file, with the changes of the command line."""
    from testbed.config import load_config

    changes = list(overrides or [])
    changes += [f'execution.device="{device}"'] if device is not None else []
    changes += [f"execution.workers={workers}"] if workers is not None else []
    changes += [f'execution.executor="{executor}"'] if executor is not None else []
    return load_config(path, changes)


def _train(study: Study, role: Role, retry_failed: bool, without_failed: bool = False) -> None:
    from testbed.study.progress import progress

    before = _notices(study)
    try:
        with progress(study, role, console) as watcher:
            study.train(role, watcher, retry_failed)
    except RunFailed as failure:
        if not without_failed:
            raise
        console.say(f"{failure.args[0].rpartition(chr(10))[0]}\ncontinuing without their cells")
    finally:
        for line in (_notices(study) - before).elements():
            console.say(line)


def _notices(study: Study) -> Counter[str]:
    """Troubles of runs that were repaired, with their numbers."""
    runs = map(study.folder.run, study.folder.specs)
    return Counter(f"{run.path.name}: {notice.message}" for run in runs for notice in run.notices())


COMMANDS = (plan, run, train, predict, validate, report, status, points)
