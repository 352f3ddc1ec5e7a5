"""The tables of pages and of the terminal, as rows of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from testbed.points import key_columns
from testbed.units import show_bytes, show_count

if TYPE_CHECKING:
    import pandas as pd

    from testbed.analysis.fit import Fit
    from testbed.analysis.fit.approaches import ThreeWays
    from testbed.analysis.fit.heldout import Backtest
    from testbed.records import Forecast, Horizon, Provenance, RunSpec, Verdict


@dataclass(frozen=True)
class TextTable:
    """Column titles and rows of text; the first `keys` columns say which row it is."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: int = 1


def plan_table(
    specs: Sequence[RunSpec], memory: dict[str, int] | None = None, seconds: dict[str, float] | None = None
) -> TextTable:
    """One row a rung and horizon: what the grid varies, sizes, tokens, exact FLOPs, steps, seeds and packs.

    `memory` adds the bytes of each run's pack, `seconds` each run's share of its pack's time, both by run id.
    """
    axes = dict.fromkeys(key for spec in specs for key in spec.cell)
    columns: list[tuple[str, Callable[[_PlanRow], str]]] = [
        ("role", _once(lambda row: _role(row.spec))),
        *((name, _once(_varied(key))) for key, name in key_columns(axes).items()),
        ("width", _once(lambda row: str(row.spec.shape.width))),
        ("depth", _once(lambda row: str(row.spec.shape.depth))),
        ("N", _once(lambda row: show_count(row.spec.counts.n_params_non_embedding))),
        ("N total", _once(lambda row: show_count(row.spec.counts.n_params_total))),
        ("D", lambda row: show_count(row.horizon.tokens)),
        ("D/N", lambda row: f"{row.horizon.tokens / row.spec.counts.n_params_non_embedding:.3g}"),
        ("FLOPs", lambda row: show_count(row.horizon.tokens * row.spec.counts.flops_per_token)),
        ("steps", lambda row: f"{row.horizon.steps:,}"),
        ("seeds", _once(lambda row: str(len(row.runs)))),
        ("packs", _once(lambda row: _packs(row.runs))),
    ]
    if memory is not None:
        columns.append(("memory", _once(lambda row: show_bytes(memory[row.spec.run_id]))))
    if seconds is not None:
        columns.append(("a run", _once(lambda row: f"{seconds[row.spec.run_id]:.0f} s")))
    rows = tuple(tuple(show(row) for _, show in columns) for row in _plan_rows(specs))
    return TextTable(tuple(title for title, _ in columns), rows, keys=2 + len(axes))


class _PlanRow(NamedTuple):
    """A row of the plan: the runs that differ in their seeds alone, at one of their horizons."""

    runs: list[RunSpec]
    horizon: Horizon

    @property
    def spec(self) -> RunSpec:
        return self.runs[0]


def _plan_rows(specs: Sequence[RunSpec]) -> Iterator[_PlanRow]:
    for _, group in groupby(specs, key=lambda spec: (_role(spec), dict(spec.cell), spec.shape.width)):
        runs = list(group)
        yield from (_PlanRow(runs, horizon) for horizon in runs[0].horizons)


def _once(show: Callable[[_PlanRow], str]) -> Callable[[_PlanRow], str]:
    """Show the cell in the row of the first horizon only: it is the same at every one."""
    return lambda row: show(row) if row.horizon == row.spec.horizons[0] else ""


def _varied(key: str) -> Callable[[_PlanRow], str]:
    """The value of one of the grid's axes, given by its dotted key."""
    return lambda row: str(row.spec.cell.get(key, ""))


def _role(spec: RunSpec) -> str:
    return f"{spec.role}, second try" if spec.retry_of else spec.role


def _packs(runs: Sequence[RunSpec]) -> str:
    """How many runs are trained side by side: one number, or several; a dash for the family's own module."""
    sizes = dict.fromkeys(str(spec.engine.pack or "-") for spec in runs)
    return ", ".join(sizes)


def fit_table(fit: Fit, bounds: pd.DataFrame, level: float) -> TextTable:
    """The parameters of a fit; `bounds` has columns low and high, the intervals of level `level`, a row a parameter."""
    rows = []
    for name, value in fit.theta.items():
        held = "held" if name in fit.fixed else _ends(float(bounds["low"][name]), float(bounds["high"][name]))
        rows.append((name, f"{value:.4g}", held))
    return TextTable(("parameter", "estimate", _interval(level)), tuple(rows))


def _ends(low: float, high: float) -> str:
    """The ends of an interval, or that there is none."""
    return "not known" if low != low or high != high else f"{low:.4g} to {high:.4g}"


def _counts(low: float, high: float) -> str:
    return "not known" if low != low or high != high else f"{show_count(low)} to {show_count(high)}"


def prediction_table(fit: Fit, points: pd.DataFrame, frame: pd.DataFrame, level: float) -> TextTable:
    """Predictions at points with their intervals, and the standard deviations that these are made of.

    `frame` is a prediction's `summary_frame`; the parts are in percent for a law of log responses, else in its units.
    """
    inputs = [name for name in fit.law.columns if name in points and name != "run"]
    unit, suffix = (100.0, " %") if fit.space == "log" else (1.0, "")
    rows = []
    for at, row in zip(points[inputs].to_dict("records"), frame.to_dict("records"), strict=True):
        shown = {
            part: f"{unit * row[f'sd_{part}']:.2g}{suffix}"
            for part in ("param", "discrepancy", "noise", "extrapolation")
        }
        if fit.differs and row["sd_noise"] == 0:
            shown["noise"] = "unknown"
        rows.append(
            (
                *(show_count(value) for value in at.values()),
                f"{row['mean']:.4f}",
                f"{row['obs_ci_lower']:.4f} to {row['obs_ci_upper']:.4f}",
                *shown.values(),
                f"{row['gap_decades']:.2f}",
            )
        )
    parts_titles = ("sd parameters", "misfit", "noise", "distance")
    return TextTable((*inputs, fit.law.response, _interval(level), *parts_titles, "decades beyond"), tuple(rows))


def frontier_table(best: pd.DataFrame, level: float) -> TextTable:
    """The compute-optimal sizes with their intervals, one row a budget."""
    rows = []
    for row in best.to_dict("records"):
        cells = [f"{row['flops']:.3g}"]
        for name in ("n", "tokens"):
            cells += [show_count(row[name]), _counts(row[f"{name}_low"], row[f"{name}_high"])]
        cells += [f"{row['tokens_per_param']:.3g}"]
        low, high = row["tokens_per_param_low"], row["tokens_per_param_high"]
        cells += ["not known" if low != low else f"{low:.3g} to {high:.3g}", f"{row['loss']:.4f}"]
        cells += [f"{row['gap_decades']:.2f}"]
        rows.append(tuple(cells))
    interval = _interval(level)
    return TextTable(("FLOPs", "N", interval, "D", interval, "D/N", interval, "loss", "decades beyond"), tuple(rows))


def backtest_table(tested: Backtest) -> TextTable:
    """Coverage, width, score and error of each kind of interval, by distance beyond the fitted compute, in percent."""
    rows = [
        (
            row["method"],
            row["distance"],
            f"{100 * row['coverage']:.0f} %",
            *(f"{100 * row[name]:.2f}" for name in ("width", "score", "error")),
            f"{row['cells']:.0f}",
        )
        for row in tested.summary.to_dict("records")
    ]
    titles = (
        "interval by",
        "decades beyond",
        f"covers ({100 * tested.level:.3g} %)",
        "width %",
        "score %",
        "error %",
        "cells",
    )
    return TextTable(titles, tuple(rows))


def approaches_table(found: ThreeWays) -> TextTable:
    """Each approach's exponents with intervals, and its optimal N and D at the largest compute of the table."""
    rows = []
    for row in found.table.to_dict("records"):
        ends = [f"{row[k]:.3f} ({_exponents(row[f'{k}_low'], row[f'{k}_high'])})" for k in "ab"]
        optima = "" if row["optima"] is None or row["optima"] != row["optima"] else f"{row['optima']:.0f}"
        rows.append((row["approach"], optima, *ends, show_count(row["n"]), show_count(row["tokens"])))
    at = f"at {found.flops:.3g} FLOPs"
    return TextTable(("approach", "optima", "N ~ C^a", "D ~ C^b", f"N {at}", f"D {at}"), tuple(rows))


def _exponents(low: float, high: float) -> str:
    return "not known" if low != low or high != high else f"{low:.3f} to {high:.3f}"


def frame_table(frame: pd.DataFrame) -> TextTable:
    """A data frame as a table, its numbers with four digits."""
    rows = tuple(
        tuple(f"{v:.4g}" if isinstance(v, float) else "" if v is None else str(v) for v in values)
        for values in frame.itertuples(index=False)
    )
    return TextTable(tuple(str(name).replace("_", " ") for name in frame.columns), rows)


def _interval(level: float) -> str:
    return f"{100 * level:.3g} % interval"


def forecast_table(forecast: Forecast, verdict: Verdict | None) -> TextTable:
    """Every prediction of the target: the forecast's, each law's, each baseline's; with errors once there is a verdict."""
    errors: dict[str, float] = {}
    if verdict is not None:
        errors = {forecast.rule: verdict.error, **verdict.law_errors, **verdict.baseline_errors}
    predictions = [(forecast.rule, forecast.predicted, "the sealed forecast")]
    predictions += [
        (law.law, law.predicted, "a law of the forecast") for law in forecast.laws if len(forecast.laws) > 1
    ]
    predictions += [(law.law, law.predicted, "shown beside it") for law in forecast.beside]
    predictions += [(name, loss, "baseline") for name, loss in forecast.baselines.items()]
    rows = []
    for name, loss, what in predictions:
        error = (f"{100 * errors[name]:+.2f} %",) if errors else ()
        rows.append((name, what, f"{loss:.4f}", *error))
    titles = ("prediction", "what it is", "nats/token")
    return TextTable((*titles, "error") if errors else titles, tuple(rows))


def parts_table(forecast: Forecast) -> TextTable:
    """The three standard deviations that the interval of a forecast is made of."""
    return TextTable(
        ("part of the interval", "relative sd"),
        (
            ("refitting to resampled trunks", f"{100 * forecast.sd_trunks:.2f} %"),
            ("seed noise of the target's mean", f"{100 * forecast.sd_seeds:.2f} %"),
            ("disagreement of the laws", f"{100 * forecast.sd_laws:.2f} %"),
        ),
    )


def seal_table(forecast: Forecast) -> TextTable:
    """The facts under the seal: time, digests, and how the fit was made."""
    return TextTable(
        ("seal", ""),
        (
            ("sealed at", forecast.sealed_at),
            ("digest", forecast.digest),
            ("configuration", forecast.config_hash),
            ("points", f"{forecast.n_points} losses of {forecast.n_runs} runs, {forecast.points_digest}"),
            (
                "fit",
                f"seed means, Huber {forecast.delta:g} on log loss, N = {forecast.n_column}, {forecast.bootstrap} resamples",
            ),
        ),
    )


def provenance_table(records: Sequence[Provenance], specs: Sequence[RunSpec]) -> TextTable:
    """Data, devices, versions and commits behind the runs, each distinct value once."""
    data = specs[0].data

    def distinct(values: list[str]) -> str:
        return ", ".join(dict.fromkeys(values)) or "-"

    rows = [
        ("data", f"{data.source}, {data.tokenizer} tokens, vocabulary {data.vocab_size}, windows of {data.seq_len}"),
        ("validation", f"{data.val_tokens:,} scored tokens, frozen"),
        ("data fingerprint", data.fingerprint),
        ("device", distinct([f"{p.device} ({p.cpu_capability}, {p.threads} thread)" for p in records])),
        ("Python", distinct([f"{p.python}, {p.platform}" for p in records])),
        ("versions", distinct([", ".join(f"{k} {v}" for k, v in p.versions.items()) for p in records])),
        ("deterministic kernels", distinct(["yes" if p.deterministic else "no" for p in records])),
        ("commit", distinct([p.commit or "not a checkout" for p in records])),
        ("starts of runs", f"{len(records)}, the first at {min((p.started for p in records), default='-')}"),
    ]
    return TextTable(("fact", ""), tuple(rows))
