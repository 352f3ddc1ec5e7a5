"""The tables of the page and the terminal, as lists of rows of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from testbed.units import show_count

if TYPE_CHECKING:
    from testbed.fit import Fit
    from testbed.records import Forecast, Provenance, RunSpec, Verdict


@dataclass(frozen=True)
class Table:
    """Column titles and rows of text."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def plan_table(specs: Sequence[RunSpec], seconds: dict[int, float] | None = None) -> Table:
    """One row a rung and horizon: sizes, tokens, exact FLOPs, steps, seeds; and estimated seconds of a run by width."""
    rows: list[tuple[str, ...]] = []
    for (role, width), group in groupby(specs, key=lambda s: (s.role, s.shape.width)):
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
            )
            time = () if seconds is None else (f"{seconds[width]:.0f} s" if first else "",)
            rows.append((*row, *time))
    titles = ("role", "width", "depth", "N", "N total", "D", "D/N", "FLOPs", "steps", "seeds")
    return Table(titles if seconds is None else (*titles, "a run"), tuple(rows))


def fit_table(fit: Fit, level: float) -> Table:
    """Parameters of a law with their intervals."""
    rows = []
    for name, value in fit.params.items():
        low, high = fit.interval(name, level)
        rows.append((name, f"{value:.4g}", f"{low:.4g} to {high:.4g}"))
    return Table(("parameter", "estimate", f"{100 * level:.0f} % interval"), tuple(rows))


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
