"""The forecast and its verdict in sentences, the same for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from testbed.records import Forecast, MissingCell, Retried, Verdict
from testbed.units import show_count

if TYPE_CHECKING:
    from testbed.analysis.fit.heldout import Backtest

_AFTER_THE_FACT = " This forecast was made after its target had been trained: it is no test of the law."


def forecast_sentence(forecast: Forecast) -> str:
    """The prediction with its interval, and the runs that it was made from."""
    target, interval = forecast.target, forecast.interval
    missing = f" {missing_sentence(forecast.missing)}" if forecast.missing else ""
    missing += f" {retried_sentence(forecast.retried)}" if forecast.retried else ""
    missing += f" {_sentence(forecast.repetition.sentence(_names(forecast)))}" if forecast.repetition else ""
    half = 50 * (interval.high - interval.low) / forecast.predicted
    return (
        f"From {forecast.n_runs} runs (to {show_count(target.flops / forecast.compute_ratio)} FLOPs) "
        f"the {forecast.rule} says that "
        f"{show_count(target.n_params_non_embedding)} parameters on {show_count(target.tokens)} tokens, "
        f"{forecast.compute_ratio:.1f} times the compute of the largest of them, will reach {forecast.predicted:.4f} nats/token "
        f"({100 * interval.level:.0f} % interval {interval.low:.4f} to {interval.high:.4f}, ±{half:.1f} %).{missing}"
        + _AFTER_THE_FACT
        * forecast.after_the_fact
    )


def unfitted_sentence(reason: str) -> str:
    """Why the page of a finished grid has no law."""
    return f"No law is fitted to these runs ({reason}); the losses are in the curves above and in points.csv."


def missing_sentence(missing: Sequence[MissingCell]) -> str:
    """The cells of the grid that a fit was made without."""
    runs: dict[str, list[MissingCell]] = {}
    for cell in missing:
        runs.setdefault(cell.run, []).append(cell)
    cells_left_out = [
        f"N = {show_count(cells[0].n_params_non_embedding)} at D = {', '.join(show_count(c.tokens) for c in cells)} "
        f"(seed {cells[0].init_seed}, run {run})"
        for run, cells in runs.items()
    ]
    return f"Made WITHOUT {len(missing)} cells of the grid, whose runs failed: {'; '.join(cells_left_out)}."


def retried_sentence(retried: Sequence[Retried]) -> str:
    """The runs of a fit that replaced diverged ones, with their learning rates."""
    repeats = [f"{again.run} at {again.lr:g} for {again.retry_of}" for again in retried]
    return (
        f"Runs that diverged were repeated at lower learning rates, and the repeats are fitted: {'; '.join(repeats)}."
    )


def backtest_sentence(tested: Backtest) -> str:
    """How often the intervals of a law covered runs that it was not fitted to."""
    whole = tested.summary.query("distance == 'all' and method == 'kriging'").iloc[0]
    cuts = tested.predictions["cut"].nunique()
    factor = (
        f"they would have to be {tested.kappa:.2f} times as wide to cover {100 * tested.level:.0f} %"
        if tested.kappa > 1
        else f"{tested.kappa:.2f} times their width would have been enough"
    )
    failed = " This law has failed on this table: do not rely on its intervals." if tested.kappa > 1.5 else ""
    return (
        f"Fitted below {cuts} cuts in {tested.by} and tested on the rows above them, the {100 * tested.level:.0f} % intervals "
        f"of {tested.law} covered {100 * whole['coverage']:.0f} %; {factor}.{failed}"
    )


def verdict_sentence(verdict: Verdict) -> str:
    """The loss that the target reached, and the forecast's error."""
    seeds = len(verdict.observed_runs)
    where = "inside" if verdict.hit else "OUTSIDE"
    return (
        f"It reached {verdict.observed:.4f} (mean of {seeds} seed{'s' * (seeds > 1)}): the forecast is "
        f"{100 * verdict.error:+.2f} % off, {where} its interval, z = {verdict.z:+.2f}. {equivalent_sentence(verdict)}"
        + (f" {_sentence(verdict.repetition.sentence(list(verdict.law_errors)))}" if verdict.repetition else "")
        + _worse_than_the_grid(verdict)
        + _AFTER_THE_FACT * verdict.after_the_fact
    )


def _worse_than_the_grid(verdict: Verdict) -> str:
    best = verdict.best_of_grid
    if best is None or verdict.observed <= best:
        return ""
    return (
        f" That is worse than the grid's best, {best:.4f}, which took less compute: the target overfits or its training has "
        "gone wrong; testbed report draws its curve."
    )


def _names(forecast: Forecast) -> list[str]:
    return [law.law for law in (*forecast.laws, *forecast.beside)]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def equivalent_sentence(verdict: Verdict) -> str:
    """The forecast's error as a factor on the target's compute."""
    factor = verdict.compute_equivalent
    if factor is None:
        return "By the forecast's own law no amount of compute within three decades gives that loss."
    if factor >= 1:
        return f"By the forecast's own law it takes {factor:.2f} times the compute to reach that loss."
    return f"By the forecast's own law {factor:.2f} times the compute is enough for that loss."


def entropy_sentence(forecast: Forecast, true_entropy: float | None, held: bool | None) -> str | None:
    """The interval of the irreducible loss E, and whether it holds the source's true entropy, where that is known."""
    if forecast.entropy is None:
        return None
    interval = forecast.entropy.interval
    found = f"E lies in {interval.low:.3f} to {interval.high:.3f} nats/token"
    if not forecast.entropy.identified:
        found = f"E is not identified by this design: {found} ({forecast.entropy.reason})"
    if true_entropy is None:
        return f"{found}."
    return f"{found}; the source's true entropy is {true_entropy:.4f}, {'inside' if held else 'OUTSIDE'}."
