"""The tables of the page and the terminal, as lists of rows of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from testbed.units import show_bytes, show_count

if TYPE_CHECKING:
    import pandas as pd

    from testbed.analysis.fit import Fit
    from testbed.analysis.fit.approaches import ThreeWays
    from testbed.analysis.fit.heldout import Backtest
    from testbed.records import Forecast, Provenance, RunSpec, Verdict


@dataclass(frozen=True)
class Table:
    """Column titles and rows of text; the first `keys` columns say which row it is."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: int = 1


def plan_table(
    specs: Sequence[RunSpec], memory: dict[str, int] | None = None, seconds: dict[str, float] | None = None
) -> Table:
    """One row a rung and horizon: sizes, tokens, exact FLOPs, steps, seeds, packs; and what its runs take.

    By a run's id that is its pack's `memory` in bytes, and its share of its pack's `seconds`.
    """
    rows: list[tuple[str, ...]] = []
    for (role, width), group in groupby(specs, key=lambda s: (_role(s), s.shape.width)):
        runs = list(group)
        spec = runs[0]
        for index, horizon in enumerate(spec.horizons):
            n = spec.counts.n_params_non_embedding
            first = index == 0
            row = (
                role if first else "",
                str(width) if first else "",
                str(spec.shape.depth) if first else "",
                show_count(n) if first else "",
                show_count(spec.counts.n_params_total) if first else "",
                show_count(horizon.tokens),
                f"{horizon.tokens / n:.3g}",
                show_count(horizon.tokens * spec.counts.flops_per_token),
                f"{horizon.steps:,}",
                str(len(runs)) if first else "",
                _packs(runs) if first else "",
            )
            space = () if memory is None else (show_bytes(memory[spec.run_id]) if first else "",)
            time = () if seconds is None else (f"{seconds[spec.run_id]:.0f} s" if first else "",)
            rows.append((*row, *space, *time))
    titles: tuple[str, ...] = ("role", "width", "depth", "N", "N total", "D", "D/N", "FLOPs", "steps", "seeds", "packs")
    titles += () if memory is None else ("memory",)
    return Table(titles if seconds is None else (*titles, "a run"), tuple(rows), keys=2)


def _role(spec: RunSpec) -> str:
    return f"{spec.role}, second try" if spec.retry_of else spec.role


def _packs(runs: Sequence[RunSpec]) -> str:
    """How many runs are trained side by side: one number, or several; a dash for the family's own module."""
    sizes = dict.fromkeys(str(spec.engine.pack or "-") for spec in runs)
    return ", ".join(sizes)


def fit_table(fit: Fit, bounds: pd.DataFrame, level: float) -> Table:
    """Parameters of a law with their intervals (columns low and high)."""
    rows = []
    for name, value in fit.theta.items():
        low, high = bounds.loc[name]
        held = "held" if name in fit.fixed else f"{low:.4g} to {high:.4g}"
        rows.append((name, f"{value:.4g}", held))
    return Table(("parameter", "estimate", _interval(level)), tuple(rows))


def prediction_table(fit: Fit, points: pd.DataFrame, frame: pd.DataFrame, level: float) -> Table:
    """Predictions at points with their intervals, and what the intervals are made of (percent of the response)."""
    inputs = [name for name in fit.law.columns if name in points and name != "run"]
    unit, suffix = (100.0, " %") if fit.space == "log" else (1.0, "")
    rows = []
    for at, row in zip(points[inputs].to_dict("records"), frame.to_dict("records"), strict=True):
        parts = [row[f"sd_{part}"] for part in ("param", "discrepancy", "noise", "extrapolation")]
        rows.append(
            (
                *(show_count(value) for value in at.values()),
                f"{row['mean']:.4f}",
                f"{row['obs_ci_lower']:.4f} to {row['obs_ci_upper']:.4f}",
                *(f"{unit * part:.2g}{suffix}" for part in parts),
                f"{row['gap_decades']:.2f}",
            )
        )
    parts_titles = ("sd parameters", "misfit", "noise", "distance")
    return Table((*inputs, fit.law.response, _interval(level), *parts_titles, "decades beyond"), tuple(rows))


def frontier_table(best: pd.DataFrame, level: float) -> Table:
    """The compute-optimal sizes with their intervals, one row a budget."""
    rows = []
    for row in best.to_dict("records"):
        cells = [f"{row['flops']:.3g}"]
        for name in ("n", "tokens"):
            cells += [show_count(row[name]), f"{show_count(row[f'{name}_low'])} to {show_count(row[f'{name}_high'])}"]
        cells += [f"{row['tokens_per_param']:.3g}"]
        cells += [f"{row['tokens_per_param_low']:.3g} to {row['tokens_per_param_high']:.3g}", f"{row['loss']:.4f}"]
        rows.append(tuple(cells))
    interval = _interval(level)
    return Table(("FLOPs", "N", interval, "D", interval, "D/N", interval, "loss"), tuple(rows))


def backtest_table(tested: Backtest) -> Table:
    """How each way to an interval did, by distance beyond the fitted compute; widths and errors in percent."""
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
    return Table(titles, tuple(rows))


def approaches_table(found: ThreeWays) -> Table:
    """The exponents of each approach with their intervals, and its N and D at the table's most compute."""
    rows = []
    for row in found.table.to_dict("records"):
        ends = [f"{row[k]:.3f} ({row[f'{k}_low']:.3f} to {row[f'{k}_high']:.3f})" for k in "ab"]
        optima = "" if row["optima"] is None or row["optima"] != row["optima"] else f"{row['optima']:.0f}"
        rows.append((row["approach"], optima, *ends, show_count(row["n"]), show_count(row["tokens"])))
    at = f"at {found.flops:.3g} FLOPs"
    return Table(("approach", "optima", "N ~ C^a", "D ~ C^b", f"N {at}", f"D {at}"), tuple(rows))


def frame_table(frame: pd.DataFrame) -> Table:
    """Any table, numbers with four digits."""
    rows = tuple(
        tuple(f"{v:.4g}" if isinstance(v, float) else "" if v is None else str(v) for v in values)
        for values in frame.itertuples(index=False)
    )
    return Table(tuple(str(name).replace("_", " ") for name in frame.columns), rows)


def _interval(level: float) -> str:
    return f"{100 * level:.3g} % interval"


def forecast_table(forecast: Forecast, verdict: Verdict | None) -> Table:
    """Every prediction of the target, with its error once the target is known."""
    errors: dict[str, float] = {}
    if verdict is not None:
        errors = {forecast.rule: verdict.error, **verdict.law_errors, **verdict.baseline_errors}
    guesses = [(forecast.rule, forecast.predicted, "the sealed forecast")]
    guesses += [(law.law, law.predicted, "a law of the forecast") for law in forecast.laws if len(forecast.laws) > 1]
    guesses += [(law.law, law.predicted, "shown beside it") for law in forecast.beside]
    guesses += [(name, loss, "baseline") for name, loss in forecast.baselines.items()]
    rows = []
    for name, loss, what in guesses:
        error = (f"{100 * errors[name]:+.2f} %",) if errors else ()
        rows.append((name, what, f"{loss:.4f}", *error))
    titles = ("prediction", "what it is", "nats/token")
    return Table((*titles, "error") if errors else titles, tuple(rows))


def parts_table(forecast: Forecast) -> Table:
    """Where the interval's width comes from."""
    return Table(
        ("part of the interval", "relative sd"),
        (
            ("refitting to resampled trunks", f"{100 * forecast.sd_trunks:.2f} %"),
            ("seed noise of the target's mean", f"{100 * forecast.sd_seeds:.2f} %"),
            ("disagreement of the laws", f"{100 * forecast.sd_laws:.2f} %"),
        ),
    )


def seal_table(forecast: Forecast) -> Table:
    """What identifies the seal."""
    return Table(
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


def provenance_table(records: Sequence[Provenance], specs: Sequence[RunSpec]) -> Table:
    """What the runs' numbers came from, each distinct fact once."""
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
    return Table(("fact", ""), tuple(rows))
