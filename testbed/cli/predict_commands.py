"""The commands on a written fit: predictions, the compute-optimal frontier, the cost of a loss, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.cli.output import AsJson, console, frame_rows, print_json, print_table, print_warnings
from testbed.cli.table_options import Level, number, target_columns
from testbed.errors import ConfigError, TableError

FitPath = Annotated[Path, typer.Argument(metavar="FIT.json", help="what testbed fit -o FIT.json wrote")]


def predict_from(
    path: Path, columns: dict[str, float], at: Path | None, level: float, seeds: int, as_json: bool
) -> None:
    """Print what the fit in `path` predicts for runs given by columns or by a table."""
    fit = read_fit(path)
    if (at is None) == (not columns):
        raise ConfigError(
            "predict: say what for, once: --params N --tokens D (and --set NAME=NUMBER for the law's other columns), "
            "or --at TABLE"
        )
    from testbed.analysis.fit.diagnostics import far_target, unidentified
    from testbed.analysis.fit.diagnostics.differences import rows_differ
    from testbed.analysis.fit.diagnostics.ladder import ladder

    points = _rows_at(fit, columns, at)
    prediction = fit.get_prediction(points, level=level, seeds=seeds)
    frame = prediction.summary_frame(level)
    on_a_line = tuple(unidentified(fit)) if ladder(fit) is not None else ()
    findings = (*far_target(prediction), *on_a_line, *rows_differ(fit))
    rows = [_prediction_row(row, fit.law.response, level) for row in frame.to_dict("records")]
    if as_json:
        inputs = frame_rows(points[[c for c in points if c in fit.law.columns]])
        rows = [{"at": given, **row} for given, row in zip(inputs, rows, strict=True)]
        head: dict[str, Any] = {"law": fit.law.name, "warnings": [finding.to_dict() for finding in findings]}
        print_json(head | (rows[0] if at is None else {"rows": rows}))
        return
    from testbed.analysis.report.study.tables import prediction_table

    print_table(prediction_table(fit, points, frame, level))
    print_warnings(findings)


def frontier(
    path: FitPath,
    flops: Annotated[
        list[str] | None, typer.Option("--flops", metavar="C", help="training FLOPs; may be repeated")
    ] = None,
    inference_tokens: Annotated[
        str | None, typer.Option(metavar="T", help="tokens that will be served, at 2 N FLOPs each from the same budget")
    ] = None,
    level: Level = 0.9,
    as_json: AsJson = False,
) -> None:
    """Compute the optimal N, D and D/N for training FLOPs C, with intervals."""
    if not flops:
        raise ConfigError("frontier: give the training FLOPs with --flops C, such as --flops 1e21")
    fit = read_fit(path)
    served = 0.0 if inference_tokens is None else number(inference_tokens, "--inference-tokens")
    best = fit.frontier([number(c, "--flops") for c in flops], level, served)
    from testbed.analysis.fit.diagnostics import carried, far_answer

    what = "the optimum" if len(best) == 1 else "an optimum"
    findings = (*carried(fit), *far_answer(fit, what, best["n"].to_numpy(), best["tokens"].to_numpy()))
    if as_json:
        rows = frame_rows(best)
        head = {"law": fit.law.name, "level": level, "warnings": [finding.to_dict() for finding in findings]}
        print_json(head | (rows[0] if len(rows) == 1 else {"rows": rows}))
        return
    from testbed.analysis.report.study.tables import frontier_table

    print_table(frontier_table(best, level))
    if best["n"].isna().any():
        console.say("a row without numbers: the law has no optimum there; its loss keeps falling towards one end")
    print_warnings(findings)


def solve(
    path: FitPath,
    loss: Annotated[float, typer.Option(help="the loss (or other response) to reach")],
    params: Annotated[str | None, typer.Option(help="at this many parameters")] = None,
    tokens: Annotated[str | None, typer.Option(help="at this many tokens")] = None,
    at: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=NUMBER", help="any other column there")] = None,
    level: Level = 0.9,
    as_json: AsJson = False,
) -> None:
    """Compute what a loss costs: tokens at a size, parameters at tokens, or FLOPs on the frontier."""
    fit = read_fit(path)
    given = target_columns(params, tokens, at)
    found = fit.solve(loss, level, **given)
    findings = _about_a_solution(fit, found, given)
    ends = [None if end != end or abs(end) == float("inf") else float(end) for end in (found.low, found.high)]
    value = float(found.value) if abs(found.value) != float("inf") else None
    if as_json:
        share = None if found.reached != found.reached else float(found.reached)
        print_json(
            {
                "law": fit.law.name,
                "column": found.name,
                "value": value,
                "interval": ends,
                "level": level,
                "reached": share,
                "warnings": [finding.to_dict() for finding in findings],
            }
        )
        return
    from testbed.units import show_count

    if value is None:
        console.say(f"{fit.law.name} never reaches {loss:g} that way")
    else:
        low, high = ("infinite" if end is None else show_count(end) for end in ends)
        known = found.low == found.low and found.high == found.high
        interval = f"{100 * level:.0f} % interval {low} to {high}" if known else "no interval is known"
        console.say(f"{found.name}: {show_count(value)}  ({interval})")
    print_warnings(findings)


def plot(
    path: FitPath,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", help="a page (.html), a picture (.svg, .png, .pdf) or a folder"),
    ],
    figure: Annotated[str | None, typer.Option(help="one figure only; without it a page has all of them")] = None,
    params: Annotated[str | None, typer.Option(help="a target's parameters, drawn with its prediction")] = None,
    tokens: Annotated[str | None, typer.Option(help="the target's tokens")] = None,
    level: Level = 0.9,
) -> None:
    """Draw a fit: iso-loss contours, IsoFLOP slices, residuals, profiles, resamples, extrapolation."""
    from testbed.analysis.fit.diagnostics import carried
    from testbed.analysis.report.fit.fit_figures import save_figures

    target = target_columns(params, tokens, None) or None
    fit = read_fit(path)
    for written in save_figures(fit, out, figure=figure, level=level, target=target):
        console.say(f"written: {written}")
    print_warnings(carried(fit))


def read_fit(path: Path) -> Any:
    """The fit in a file.

    Raises:
        TableError: There is none.
    """
    import json

    from testbed.analysis.fit import Fit

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TableError(f"{path}: no such file; testbed fit TABLE -o {path} writes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise TableError(f"{path}: cannot be read as a fit ({str(error).splitlines()[0]})") from None
    if not isinstance(document, dict):
        raise TableError(f"{path}: no fit in it; testbed fit TABLE -o FIT.json writes one")
    return Fit.from_dict(document, str(path))


def _about_a_solution(fit: Any, found: Any, given: dict[str, float]) -> tuple[Any, ...]:
    """The doubts of the fit, and how far the solution lies from its rows."""
    from testbed.analysis.fit.diagnostics import carried, far_answer

    value = float(found.value)
    if found.name == "flops" and 0 < value < float("inf"):
        best = fit.frontier([value])
        at = {name: float(best[name].iloc[0]) for name in ("n", "tokens")}
    else:
        at = {**given, str(found.name): value}
    if not {"n", "tokens"} <= set(at):
        return carried(fit)
    return (*carried(fit), *far_answer(fit, "the solution", [at["n"]], [at["tokens"]]))


def _rows_at(fit: Any, columns: dict[str, float], at: Path | None) -> Any:
    import pandas as pd

    from testbed.points import fit_columns, known_sources, map_columns, read_table

    where = "the target" if at is None else str(at)
    table = pd.DataFrame([columns]) if at is None else read_table(at)
    wanted = tuple(name for name in fit.law.columns if name != "run")
    given = known_sources(table, {name: source for name, source in fit.columns.items() if name != "run"})
    return fit_columns(table, map_columns(table, wanted, given, where), where)


def _prediction_row(row: dict[str, Any], response: str, level: float) -> dict[str, Any]:
    return {
        response: row["mean"],
        "interval": [row["obs_ci_lower"], row["obs_ci_upper"]],
        "level": level,
        "mean_interval": [row["mean_ci_lower"], row["mean_ci_upper"]],
        "parts": {
            "parameters": row["sd_param"],
            "misspecification": row["sd_discrepancy"],
            "noise": row["sd_noise"],
            "extrapolation": row["sd_extrapolation"],
        },
        "gap_decades": row["gap_decades"],
        "in_hull": bool(row["in_hull"]),
    }


COMMANDS = (frontier, solve, plot)
