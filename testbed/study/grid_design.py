"""Turns a configuration's ladder into candidates for a design, and a chosen design into rungs; simulates a plan's power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from testbed.analysis.design import (
    Candidates,
    Noise,
    Suggestions,
    largest_run,
    noise_between,
    noise_of,
    optimal,
    prior_belief,
    suggest_from_fit,
    suggest_from_prior,
)
from testbed.analysis.design.power import STUDIES, Power, power
from testbed.analysis.design.simulation import Planned
from testbed.analysis.fit import fit_law
from testbed.analysis.laws import find_law
from testbed.config import Config, load_config
from testbed.errors import ConfigError
from testbed.records import DataFacts, RunSpec
from testbed.training.data import open_source
from testbed.training.models import find_family
from testbed.training.store import SweepFolder
from testbed.training.store.sweep_points import sweep_points
from testbed.training.sweep import Rung, plan

_SEEDS = 3  # per width at least, if the configuration has as many: two seeds say little about their noise
_HORIZONS = 7  # that a suggested run may have
_MORE_CELLS = 3  # more cells than parameters, or every law would go through every cell


def chosen_rungs(config: Config, facts: DataFacts) -> tuple[Rung, ...] | None:
    """The rungs of grid.design = "optimal", chosen from the prior; None for a whole grid.

    Trained runs have no influence: the same configuration gives the same runs.
    """
    grid = config.grid
    if grid.design is None or grid.budget is None:
        return None
    specs, target = rung_specs(config, facts), target_columns(config, facts)
    candidates = candidates_of(specs, config.forecast.n)
    noise, _ = noise_of(facts.entropy is not None)
    settings = config.forecast
    assert config.target is not None
    belief = prior_belief(settings.laws, candidates, target, noise, len(config.target.init_seeds))
    per_seed = 1 if grid.data_seeds == "own" else len(grid.data_seeds)  # a seed is a run with each of the orders
    laws = [find_law(name) for name in (*settings.laws, *settings.beside)]
    taken = optimal(
        belief,
        candidates,
        target["flops"],
        grid.budget / per_seed,
        least=min(_SEEDS, len(grid.init_seeds)),
        most=len(grid.init_seeds),
        cells=max(len(law.parameters) for law in laws) + _MORE_CELLS,
    )
    return tuple(
        Rung(
            width=specs[one.rung].shape.width,
            tokens=tuple(specs[one.rung].horizons[h].tokens for h in one.horizons),
            seeds=one.seeds,
        )
        for one in taken
    )


def rung_specs(config: Config, facts: DataFacts) -> tuple[RunSpec, ...]:
    """One run per width of the grid, with all its horizons, by ascending width."""
    every = plan(config.model_copy(update={"target": None}), facts).grid
    return tuple({spec.shape.width: spec for spec in sorted(every, key=lambda spec: spec.shape.width)}.values())


def candidates_of(specs: tuple[RunSpec, ...], n: str = "n_params_non_embedding") -> Candidates:
    """The runs that a design may choose from these rungs, with exact N and FLOPs."""
    return Candidates(
        names=tuple(spec.shape.width for spec in specs),
        n=np.array([getattr(spec.counts, n) for spec in specs], np.float64),
        flops_per_token=np.array([spec.counts.flops_per_token for spec in specs], np.float64),
        tokens=np.array([[h.tokens for h in spec.horizons] for spec in specs], np.float64),
        cooldown=np.array(
            [[part.steps * spec.batch_tokens for part in spec.segments if part.branch] for spec in specs], np.float64
        ),
    )


def target_columns(config: Config, facts: DataFacts) -> dict[str, float]:
    """N, training tokens and FLOPs of the configuration's target, as n, tokens and flops."""
    assert config.target is not None
    width, tokens = config.target.width, config.target.tokens
    alone = config.grid.model_copy(update={"widths": (width,), "tokens": (tokens,), "flops": None})
    (spec, *_) = plan(config.model_copy(update={"target": None, "grid": alone}), facts).grid
    return {
        "n": float(getattr(spec.counts, config.forecast.n)),
        "tokens": float(spec.horizons[0].tokens),
        "flops": float(spec.horizons[0].tokens * spec.counts.flops_per_token),
    }


def suggest_for_study(
    path: Path,
    overrides: Sequence[str],
    target: dict[str, float] | None,
    law: str | None,
    budget: float | None,
    runs: int,
    level: float,
) -> tuple[Suggestions, list[str]]:
    """The next runs of a study (a folder or a configuration), and the assumptions made, in sentences.

    They are chosen by a fit of the finished runs, or from the prior while those are too few. `target` (n, tokens) is the
    configuration's own if None; `budget` is in FLOPs.

    Raises:
        ConfigError: There is no target, or overrides are given for a folder.
    """
    config, folder = _study(path, overrides)
    facts = open_source(config.data).facts if folder is None else folder.specs[0].data
    if config.target is None and target is None:
        raise ConfigError(f"{path}: the configuration has no [target]; say what for: --target N,D")
    own = candidates_of(rung_specs(config, facts), config.forecast.n)
    at = target_columns(config, facts) if target is None else _with_flops(target, own)
    candidates = candidates_of(rung_specs(_wider(config, facts, at["flops"]), facts), config.forecast.n)
    seeds = 1 if config.target is None or target is not None else len(config.target.init_seeds)
    options = {"budget": budget, "runs": runs, "level": level, "seeds": seeds}
    name = law or config.forecast.laws[0]
    points = _finished(folder)
    assumed = "a run is a new trunk, its horizons branch from it at the price of their cooldowns; finished runs stay as they are"
    if len(points) > len(find_law(name).parameters) + 1:
        fit = fit_law(name, points, columns={"n": config.forecast.n}, delta=config.forecast.delta, n_boot=0)
        found = suggest_from_fit(fit, candidates, at, **options)  # type: ignore[arg-type]
        assert folder is not None
        return found, [f"{folder.path}: {fit.nobs} losses of {fit.n_runs} finished runs, {name}", assumed]
    noise, study = noise_of(facts.entropy is not None)
    found = suggest_from_prior([name], candidates, at, noise, **options)  # type: ignore[arg-type]
    return found, [
        f"{config.name}: {len(points)} losses of finished runs, so from the prior: parameters like those of published laws, "
        f"noise {100 * noise.single:.2g} % as measured in {study}",
        assumed,
    ]


def power_of(
    config: Config, noise: float | None, truth: tuple[str, dict[str, float]] | None
) -> tuple[Power, list[str]]:
    """The power of a configuration's grid, by simulated studies, and the noise and truth assumed, in sentences.

    `noise` is the relative noise of a single loss; if None, that of the study's finished runs, or of the measured study
    that is most like it. `truth` is a law with its parameters; if None, the prior.

    Raises:
        ConfigError: The truth does not name each parameter of its law once.
    """
    facts = open_source(config.data).facts
    made = plan(config, facts, chosen_rungs(config, facts))
    own = noise_between(_finished(_folder(config)), config.forecast.n)
    known, whose = (own, "its own finished runs") if own is not None else noise_of(facts.entropy is not None)
    if noise is not None:
        known, whose = Noise(noise * known.run / known.single, noise * known.row / known.single), "--noise"
    law = None if truth is None else find_law(truth[0])
    if law is not None and truth is not None and sorted(truth[1]) != sorted(p.name for p in law.parameters):
        raise ConfigError(
            f"--truth: found {', '.join(truth[1])}; {law.name} has {', '.join(p.name for p in law.parameters)}: give each once"
        )
    settings = config.forecast
    found = power(
        planned_of(made.grid, settings.n),
        settings.laws,
        known,
        target=target_columns(config, facts) if config.target else None,
        target_seeds=len(config.target.init_seeds) if config.target else 1,
        truth=None if law is None or truth is None else (law, truth[1]),
        delta=settings.delta,
        level=settings.level,
        seed=settings.seed,
    )
    under = "the prior: parameters like those of published laws" if law is None else f"{law.name} as given"
    share = known.run**2 / known.single**2
    return found, [
        f"{config.name}: {len(made.grid)} grid runs simulated {STUDIES} times under {under}",
        f"noise of a loss {100 * known.single:.2g} % ({whose}), {100 * share:.0f} % of its variance common to a run's losses",
    ]


def planned_of(grid: Sequence[RunSpec], n: str) -> tuple[Planned, ...]:
    """A grid's runs, with their number per design."""
    found = []
    for _, group in groupby(grid, key=lambda spec: spec.designs):
        runs = list(group)
        first = runs[0]
        size, horizons = float(getattr(first.counts, n)), tuple(float(h.tokens) for h in first.horizons)
        found.append(Planned(size, horizons, float(first.counts.flops_per_token), len(runs)))
    return tuple(found)


def _study(path: Path, overrides: Sequence[str]) -> tuple[Config, SweepFolder | None]:
    """The configuration, and its folder if it exists."""
    if path.is_dir():
        if overrides:
            raise ConfigError(f"{path}: a study's configuration is settled; --set is for a CONFIG")
        folder = SweepFolder.open(path)
        return folder.config, folder
    config = load_config(path, overrides)
    return config, _folder(config)


def _folder(config: Config) -> SweepFolder | None:
    if SweepFolder.exists(config.home):
        folder = SweepFolder.open(config.home)
        return folder if folder.config.hash() == config.under(folder.config.data.rules).hash() else None
    return None


def _finished(folder: SweepFolder | None) -> pd.DataFrame:
    """The annealed losses of the grid's finished runs; empty without a folder."""
    columns = ["run", "role", "phase", "tokens", "loss", "n_params_non_embedding", "n_params_total"]
    points = pd.DataFrame(columns=columns) if folder is None else sweep_points(folder)
    return points[(points["role"] == "grid") & (points["phase"] == "annealed")]


def _wider(config: Config, facts: DataFacts, target_flops: float) -> Config:
    """The configuration with rungs between its own and its target's, and horizons up to twice its largest.

    No run costs more than one that may be suggested for a target of `target_flops`, or needs more tokens than there are.
    """
    grid = config.grid
    step = math.lcm(config.model.head_size, config.model.width_per_layer or 1)
    widths = sorted({*grid.widths, *([config.target.width] if config.target else [])})
    between = {round((low + high) / 2 / step) * step for low, high in pairwise(widths)}
    wider: dict[str, object] = {"widths": tuple(sorted({*widths, *between} - {0}))}
    most = largest_run(target_flops)
    if grid.tokens is None:
        wider["flops"] = _further(grid.flops or (), most)
    else:
        family = find_family(config.model.family)
        smallest = family.shape(min(grid.widths), config.model, facts.vocab_size, facts.seq_len)
        most_tokens = most / family.counts(smallest).flops_per_token
        if facts.train_tokens is not None and not config.data.repeat:
            most_tokens = min(most_tokens, facts.train_tokens)
        wider["tokens"] = _further(grid.tokens, most_tokens)
    return config.model_copy(update={"grid": grid.model_copy(update={**wider, "design": None, "budget": None})})


def _further(values: tuple[int, ...], most: float) -> tuple[int, ...]:
    """At most _HORIZONS of the values and twice the largest, none above `most`; the smallest if all are."""
    allowed = sorted(value for value in {*values, 2 * max(values)} if value <= most) or [min(values)]
    kept = {round(k) for k in np.linspace(0, len(allowed) - 1, min(len(allowed), _HORIZONS))}
    return tuple(allowed[k] for k in sorted(kept))


def _with_flops(target: dict[str, float], candidates: Candidates) -> dict[str, float]:
    """The target with its FLOPs, at the largest rung's FLOPs per token and parameter."""
    per_token = candidates.flops_per_token[-1] / candidates.n[-1] * target["n"]
    return {**target, "flops": float(per_token * target["tokens"])}
