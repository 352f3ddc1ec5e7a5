"""Grids that are chosen against plain ones, at equal training FLOPs. See bench.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.bench_fit import MEASURED, Bar, cpu
from testbed.analysis.design import Candidates, lattice, noise_between, suggest_from_fit
from testbed.analysis.design.power import Power, power
from testbed.analysis.design.simulation import Planned
from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.forecast import Circumstances, fit_laws, make_forecast
from testbed.analysis.laws import LAWS, Law
from testbed.config import Config, load_config
from testbed.records import TargetFacts
from testbed.study.grid_design import chosen_rungs, planned_of, target_columns
from testbed.training.data import open_source
from testbed.training.sweep import plan

CONFIGS = Path(__file__).parents[1] / "configs"
STUDIES = 400
_TRAINED = 40  # simulated tables for what needs a fit of each
_ASKED = 0.8  # times the plain grid's width


@dataclass(frozen=True)
class Pair:
    """A plain grid and the chosen one of as many FLOPs, for one target."""

    config: Config
    plain: tuple[Planned, ...]
    chosen: tuple[Planned, ...]
    target: dict[str, float]
    flops: tuple[float, float]


def pair(name: str, furthest: int = 2) -> Pair:
    """The grid of configs/NAME and a chosen one: from its widths, from horizons to `furthest` times its own, from six seeds."""
    config = load_config(CONFIGS / f"{name}.toml")
    facts = open_source(config.data).facts
    plain = plan(config, facts).grid
    tokens = config.grid.tokens or ()
    step = config.train.batch_tokens if isinstance(config.train.batch_tokens, int) else 1
    between = {round(value * 1.5 / step) * step for value in tokens}
    horizons = sorted(value for value in {*tokens, *between, 2 * tokens[-1]} if value <= furthest * tokens[-1])
    budget = sum(spec.flops for spec in plain)
    chosen = {"design": "optimal", "budget": budget, "tokens": tuple(horizons), "init_seeds": tuple(range(6))}
    other = config.model_copy(update={"grid": config.grid.model_copy(update=chosen)})
    grid = plan(other, facts, chosen_rungs(other, facts)).grid
    n = config.forecast.n
    return Pair(
        config,
        planned_of(plain, n),
        planned_of(grid, n),
        target_columns(config, facts),
        (float(budget), float(sum(spec.flops for spec in grid))),
    )


def simulated() -> Iterator[Bar]:
    """Sealed forecasts of simulated studies: width and coverage of the chosen grid's beside the plain grid's."""
    for name in ("quick_synthetic", "quick"):
        for furthest, which in ((2, ""), (1, ", no horizon beyond the plain grid's")):
            both = pair(name, furthest)
            yield Bar(
                f"{name}{which}: FLOPs, chosen to plain",
                f"{both.flops[1] / both.flops[0]:.3f}",
                "<= 1",
                both.flops[1] <= both.flops[0],
            )
            yield Bar(f"{name}{which}: the chosen grid", _in_words(both.chosen), "-", None)
            for truth, law in truths(name).items():
                yield from _compared(both, f"{name}{which}, {truth}", law, furthest == 2)


def reach() -> Iterator[Bar]:
    """How much of it is reach: the chosen grid beside a plain one that goes as far, at the same FLOPs.

    Horizons to twice those of quick_synthetic.toml leave money for three of its widths and two seeds of each.
    """
    both = pair("quick_synthetic")
    far = tuple(
        rung._replace(tokens=tuple(2 * tokens for tokens in rung.tokens), seeds=2)
        for rung in both.plain
        if rung.n in {size.n for size in both.chosen}
    )
    flops = sum(r.seeds * r.flops_per_token * (0.8 * r.tokens[-1] + 0.2 * sum(r.tokens)) for r in far)
    yield Bar("a plain grid that goes as far: FLOPs to the chosen's", f"{flops / both.flops[1]:.3f}", "-", None)
    for truth, law in truths("quick_synthetic").items():
        for bar in _compared(replace(both, plain=far), f"against it, {truth}", law, False):
            yield replace(bar, met=None)


def truths(name: str) -> dict[str, tuple[Law, Mapping[str, float]] | None]:
    """What holds in the simulated studies: the prior, and laws as fitted to the kept losses of the real ones."""
    points = pd.read_csv(MEASURED / f"{name}.points.csv").rename(columns={"n_params_non_embedding": "n"})
    means = points.groupby(["n", "tokens"], as_index=False)["loss"].mean()
    fitted = {law: fit_law(law, means, delta=0.01, n_boot=0).theta for law in ("hoffmann", "kaplan", "coupled")}
    return {"prior": None} | {f"planted {law}": (LAWS[law], theta) for law, theta in fitted.items()}


def _compared(both: Pair, what: str, truth: tuple[Law, Mapping[str, float]] | None, asked: bool) -> Iterator[Bar]:
    plain, chosen = (_power(both, grid, truth) for grid in (both.plain, both.chosen))
    ratio = float(np.median(chosen.half_widths) / np.median(plain.half_widths))
    widths = f"{ratio:.2f} (±{100 * np.median(chosen.half_widths):.2f} to ±{100 * np.median(plain.half_widths):.2f} %)"
    yield Bar(f"{what}: median width, chosen to plain", widths, f"<= {_ASKED}", ratio <= _ASKED if asked else None)
    held = f"{chosen.covered:.3f} and {plain.covered:.3f}"
    kept = chosen.covered >= plain.covered - 0.04  # two standard errors of a difference of 400 studies
    yield Bar(f"{what}: outcomes held, chosen and plain", held, "kept", kept)
    error = float(np.median(np.abs(chosen.errors)) / np.median(np.abs(plain.errors)))
    yield Bar(f"{what}: median absolute error, chosen to plain", f"{error:.2f}", "-", None)


def _power(both: Pair, grid: tuple[Planned, ...], truth: tuple[Law, Mapping[str, float]] | None) -> Power:
    seeds = len(both.config.target.init_seeds) if both.config.target else 1
    return power(
        grid,
        both.config.forecast.laws,
        _noise(both.config.name),
        target=both.target,
        target_seeds=seeds,
        truth=truth,
        delta=both.config.forecast.delta,
        studies=STUDIES,
    )


def _noise(name: str) -> Any:
    points = pd.read_csv(MEASURED / f"{name}.points.csv").query("role == 'grid'")
    repeats = [noise_between(rows, "n_params_non_embedding") for _, rows in points.groupby(points["run"].str[:2])]
    squares = np.array([[noise.run**2, noise.row**2] for noise in repeats if noise is not None])
    run, row = np.sqrt(squares.mean(axis=0))
    return type(repeats[0])(float(run), float(row))


def predicted() -> Iterator[Bar]:
    """The interval of `testbed predict FIT.json` (kriging) from simulated tables of both grids."""
    for name in ("quick_synthetic", "quick"):
        both, rng = pair(name), np.random.default_rng(1)
        for truth, law in truths(name).items():
            if law is None:
                continue
            rows = [[_prediction(both, grid, law, rng) for grid in (both.plain, both.chosen)] for _ in range(_TRAINED)]
            widths, held = np.array(rows).transpose(2, 1, 0)
            plain, chosen = np.median(widths, axis=1)
            shown = f"{chosen / plain:.2f} (±{100 * chosen:.2f} to ±{100 * plain:.2f} %)"
            yield Bar(
                f"{name}, {truth}: median width of predict's interval, chosen to plain",
                shown,
                f"<= {_ASKED}",
                chosen / plain <= _ASKED,
            )
            shares = held.mean(axis=1)
            yield Bar(
                f"{name}, {truth}: outcomes held by it, chosen and plain",
                f"{shares[1]:.2f} and {shares[0]:.2f}",
                ">= .90",
                bool(shares[1] >= 0.9),
            )


def _prediction(
    both: Pair, grid: tuple[Planned, ...], truth: tuple[Law, Mapping[str, float]], rng: np.random.Generator
) -> tuple[float, float]:
    """Half-width, and whether the outcome was held."""
    noise = _noise(both.config.name)
    fit = fit_law("hoffmann", table(grid, truth, noise, rng), delta=0.01, n_boot=0)
    at = {name: np.array([both.target[name]]) for name in ("n", "tokens")}
    low, high = fit.get_prediction(at).interval()
    outcome = _mean(truth, both.target) + noise.single * rng.normal()
    return float(np.log(high / low)[0] / 2), float(np.log(low[0]) <= outcome <= np.log(high[0]))


def table(
    grid: tuple[Planned, ...], truth: tuple[Law, Mapping[str, float]], noise: Any, rng: np.random.Generator
) -> pd.DataFrame:
    """Losses of a grid's runs under a law."""
    rows = []
    for k, rung in enumerate(grid):
        for seed in range(rung.seeds):
            shared = noise.run * rng.normal()
            for tokens in rung.tokens:
                y = _mean(truth, {"n": rung.n, "tokens": tokens}) + shared + noise.row * rng.normal()
                rows.append({"run": f"{k}-{seed}", "n": rung.n, "tokens": tokens, "loss": np.exp(y)})
    return pd.DataFrame(rows)


def _mean(truth: tuple[Law, Mapping[str, float]], at: Mapping[str, float]) -> float:
    law, theta = truth
    columns = {name: np.array([at[name]]) for name in law.columns}
    return float(np.log(law.value({name: np.array([[value]]) for name, value in theta.items()}, columns))[0, 0])


def trained() -> Iterator[Bar]:
    """Forecasts from losses of runs that were really trained, on the synthetic language: both grids, the same targets."""
    plain, chosen = (_forecasts(name) for name in ("quick_synthetic", "quick_synthetic_optimal"))
    both = plain.join(chosen, lsuffix="_plain", rsuffix="_chosen", how="inner")
    flops = float((both["flops_chosen"] / both["flops_plain"]).max())
    yield Bar(f"trained, {len(both)} repeats: FLOPs, chosen to plain", f"{flops:.3f}", "<= 1", flops <= 1)
    for interval, what in (("half", "the sealed forecast's"), ("predict", "predict's")):
        a, b = both[f"{interval}_chosen"].median(), both[f"{interval}_plain"].median()
        shown = f"{a / b:.2f} (±{100 * a:.2f} to ±{100 * b:.2f} %)"
        yield Bar(
            f"trained: median width of {what} interval, chosen to plain", shown, f"<= {_ASKED}", bool(a / b <= _ASKED)
        )
        held = [int(both[f"{interval}_held_{which}"].sum()) for which in ("chosen", "plain")]
        yield Bar(
            f"trained: outcomes held by {what}, chosen and plain",
            f"{held[0]} and {held[1]} of {len(both)}",
            "kept",
            held[0] >= held[1],
        )
    a, b = both["error_chosen"].abs().median(), both["error_plain"].abs().median()
    yield Bar(
        "trained: median absolute error of the forecast, chosen and plain",
        f"{100 * a:.2f} and {100 * b:.2f} %",
        "-",
        None,
    )


def _forecasts(name: str) -> pd.DataFrame:
    """A row a repeat: what its kept losses give, sealed and by predict."""
    config = load_config(CONFIGS / f"{name}.toml")
    points = pd.read_csv(MEASURED / f"{name}.points.csv")
    return pd.DataFrame({repeat: _forecast(config, rows) for repeat, rows in points.groupby(points["run"].str[:2])}).T


def _forecast(config: Config, points: pd.DataFrame) -> dict[str, float]:
    targets = points[points["role"] == "target"]
    first = targets.iloc[0]
    counts = {key: int(first[key]) for key in ("width", "n_params_non_embedding", "n_params_total", "tokens", "flops")}
    facts = TargetFacts(runs=tuple(targets["run"]), **counts)
    when = Circumstances(config.name, config.hash(), "2026-01-01T00:00:00+00:00", True, {})
    sealed = make_forecast(points, fit_laws(points, config.forecast, config.name), facts, config.forecast, when)
    observed = float(np.log(targets["loss"]).mean())
    grid = points[points["role"] == "grid"]
    fit = fit_law("hoffmann", grid, delta=config.forecast.delta, n_boot=0)
    at = {"n": np.array([first["n_params_non_embedding"]]), "tokens": np.array([first["tokens"]])}
    low, high = (float(np.log(end[0])) for end in fit.get_prediction(at, seeds=len(targets)).interval())
    last = grid.sort_values("tokens").groupby("run").tail(1)
    spent = float((last["flops"] * 0.8).sum() + (grid["flops"] * 0.2).sum())
    return {
        "flops": spent,
        "half": float(np.log(sealed.interval.high / sealed.interval.low)) / 2,
        "half_held": float(np.log(sealed.interval.low) <= observed <= np.log(sealed.interval.high)),
        "error": float(np.log(sealed.predicted)) - observed,
        "predict": (high - low) / 2,
        "predict_held": float(low <= observed <= high),
    }


def suggested() -> Iterator[Bar]:
    """The interval that suggest expects after its runs, beside what it is when they are done; and how fast it answers."""
    both, rng = pair("quick_synthetic"), np.random.default_rng(2)
    noise, law = _noise("quick_synthetic"), truths("quick_synthetic")["planted coupled"]
    assert law is not None
    target = {**both.target, "flops": 6 * both.target["n"] * both.target["tokens"]}
    now, expected, reached = [], [], []
    for _ in range(_TRAINED // 2):
        rows = table(both.plain, law, noise, rng)
        fit = fit_law("hoffmann", rows, delta=0.01, n_boot=0)
        found = suggest_from_fit(fit, _lattice(fit, target), target, budget=0.5 * target["flops"])
        extra = tuple(Planned(run.n, run.tokens, 6 * run.n, run.seeds) for run in found.runs)
        more = table(extra, law, noise, rng).assign(run=lambda t: "new-" + t["run"])
        again = fit_law("hoffmann", pd.concat([rows, more]), delta=0.01, n_boot=0)
        low, high = again.get_prediction({name: np.array([target[name]]) for name in ("n", "tokens")}).interval()
        now.append(found.half_width)
        expected.append(found.after)
        reached.append(float(np.sqrt(high / low)[0]) - 1)
    ratio = float(np.median(np.array(reached) / np.array(expected)))
    medians = [f"±{100 * np.median(widths):.2f} %" for widths in (now, expected, reached)]
    shown = f"{ratio:.2f} (before {medians[0]}, expected {medians[1]}, reached {medians[2]})"
    yield Bar("interval after the suggested runs, reached to expected", shown, ".8 to 1.25", 0.8 <= ratio <= 1.25)
    points = pd.read_csv(MEASURED / "quick_synthetic.points.csv").query("role == 'grid'")
    seconds, _ = cpu(lambda: _answer(points, target))
    yield Bar("suggest for a table of 360 points, fit included", f"{seconds:.1f} s of CPU time", "<= 5 s", seconds <= 5)
    config = load_config(CONFIGS / "quick_synthetic_optimal.toml")
    facts = open_source(config.data).facts
    seconds, _ = cpu(lambda: chosen_rungs(config, facts))
    yield Bar(
        "a grid of 4 widths, 7 horizons and 6 seeds chosen", f"{seconds:.1f} s of CPU time", "<= 5 s", seconds <= 5
    )


def _lattice(fit: Fit, target: Mapping[str, float]) -> Candidates:
    return lattice({name: fit.rows.columns[name] for name in ("n", "tokens")}, target["n"], target["tokens"])


def _answer(points: pd.DataFrame, target: Mapping[str, float]) -> Any:
    fit = fit_law("hoffmann", points, n_boot=0)
    return suggest_from_fit(fit, _lattice(fit, target), target)


def _in_words(grid: tuple[Planned, ...]) -> str:
    return "; ".join(f"{r.n / 1e3:.1f}k: {', '.join(f'{t / 1e3:.0f}k' for t in r.tokens)} x {r.seeds}" for r in grid)


MEASUREMENTS = {
    "simulated": simulated,
    "reach": reach,
    "predicted": predicted,
    "trained": trained,
    "suggested": suggested,
}
