"""Making the forecast that is sealed: the named laws, their combination, and an interval that is honest.

The interval has three parts, each a relative standard deviation: the laws refitted to resampled trunks
(inflated for the finite number of seeds), the seed noise of the target's mean, and the laws' disagreement,
which no resampling of the grid can show: the truth may lie anywhere between them, evenly likely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.forecast.baselines import baselines
from testbed.analysis.forecast.entropy import entropy
from testbed.analysis.laws import find_law
from testbed.config import Forecast as Settings
from testbed.errors import ConfigError, TableError
from testbed.points import annealed_only, fit_columns, map_columns, points_digest
from testbed.records import Forecast, Interval, LawForecast, MissingCell, Retried, TargetFacts


@dataclass(frozen=True)
class Circumstances:
    """What a forecast is sealed under: the study, its configuration's hash, the time, and whether the target ran before.

    `missing` and `retried` are the cells that the points lack, and the runs in them that stand in for others.
    """

    study: str
    config_hash: str
    sealed_at: str
    after_the_fact: bool
    versions: dict[str, str]
    missing: tuple[MissingCell, ...] = ()
    retried: tuple[Retried, ...] = ()


def check_design(settings: Settings, cells: int, seeds: int) -> None:
    """ConfigError where a grid of so many cells and seeds could be trained but not forecast from."""
    for name in (*settings.laws, *settings.beside):
        law = find_law(name)
        if cells <= len(law.parameters):
            raise ConfigError(
                f"forecast: the grid has {cells} cells (widths x horizons) for the {len(law.parameters)} parameters of "
                f"{law.name}; give more widths or horizons than that"
            )
    if seeds < 2:
        raise ConfigError(
            "forecast: every cell of the grid has one seed, so the noise of a run would stay unknown; "
            "give grid.init_seeds two or more"
        )


def check_what_is_left(settings: Settings, points: pd.DataFrame, where: str) -> None:
    """ConfigError where the points of a grid with missing cells can no longer be forecast from."""
    grid = _grid(points, where)
    seeds = grid.groupby([settings.n, "tokens"]).size()
    try:
        check_design(settings, len(seeds), int(seeds.max()))
    except ConfigError as error:
        raise ConfigError(
            f"{where}: too little is left without the failed runs ({error}); try them again with --retry-failed"
        ) from None


def fit_laws(points: pd.DataFrame, settings: Settings, where: str) -> dict[str, Fit]:
    """Every law of the configuration fitted to the seed means of the grid's annealed points."""
    clean = _clean(_grid(points, where), settings, where)
    names = dict.fromkeys((*settings.laws, *settings.beside))
    return {name: _fitted(name, clean, settings) for name in names}


def make_forecast(
    points: pd.DataFrame, fits: dict[str, Fit], target: TargetFacts, settings: Settings, circumstances: Circumstances
) -> Forecast:
    """The forecast for `target` by these fits to the grid's points, sealed with its digest."""
    grid = _grid(points, circumstances.study)
    clean = _clean(grid, settings, circumstances.study)
    rows = next(iter(fits.values())).rows
    at = {"n": float(getattr(target, settings.n)), "tokens": float(target.tokens), **target.columns}
    centres = np.array([math.log(fits[name].predict(**at)[0]) for name in settings.laws])
    samples = np.mean([np.log(fits[name].predict_resamples(**at)[:, 0]) for name in settings.laws], axis=0)
    sd_trunks = _spread(samples)
    sd_seeds = _seed_sd(rows.noise_sd(), len(target.runs), circumstances.study)
    sd_laws = float(centres.max() - centres.min()) / math.sqrt(12)  # uniform between the outermost
    middle = float(centres.mean())
    half = NormalDist().inv_cdf((1 + settings.level) / 2) * math.sqrt(sd_trunks**2 + sd_seeds**2 + sd_laws**2)
    cells = grid.groupby([settings.n, "tokens"], as_index=False)[["flops", "loss"]].mean()
    forecast = Forecast(
        study=circumstances.study,
        config_hash=circumstances.config_hash,
        sealed_at=circumstances.sealed_at,
        after_the_fact=circumstances.after_the_fact,
        target=target,
        compute_ratio=target.flops / float(grid["flops"].max()),
        rule=rule_in_words(settings),
        n_column=settings.n,
        delta=settings.delta,
        bootstrap=settings.bootstrap,
        seed=settings.seed,
        points_digest=points_digest(clean),
        n_points=len(clean),
        n_cells=len(rows.y),
        n_runs=rows.n_runs,
        predicted=math.exp(middle),
        interval=Interval(low=math.exp(middle - half), high=math.exp(middle + half), level=settings.level),
        sd_trunks=sd_trunks,
        sd_seeds=sd_seeds,
        sd_laws=sd_laws,
        laws=tuple(_law_forecast(fits[name], at, settings.level) for name in settings.laws),
        beside=tuple(_law_forecast(fits[name], at, settings.level) for name in settings.beside),
        entropy=entropy(clean, settings),
        baselines=baselines(cells, target.flops),
        versions=circumstances.versions,
        missing=circumstances.missing,
        retried=circumstances.retried,
    )
    return forecast.sealed()


def _fitted(name: str, clean: pd.DataFrame, settings: Settings) -> Fit:
    return fit_law(name, clean, delta=settings.delta, replicates="mean", n_boot=settings.bootstrap, seed=settings.seed)


def rule_in_words(settings: Settings) -> str:
    """How the laws are combined."""
    if len(settings.laws) == 1:
        return settings.laws[0]
    return f"geometric mean of {', '.join(settings.laws[:-1])} and {settings.laws[-1]}"


def _grid(points: pd.DataFrame, where: str) -> pd.DataFrame:
    return annealed_only(points[points["role"] == "grid"], where)


def _clean(grid: pd.DataFrame, settings: Settings, where: str) -> pd.DataFrame:
    laws = [find_law(name) for name in (*settings.laws, *settings.beside)]
    known = {name for law in laws for name in law.columns if name not in ("n", "tokens", "flops")}
    mapping = map_columns(grid, ("n", "tokens", *sorted(known), "loss"), {"n": settings.n}, where)
    return fit_columns(grid, mapping, where)


def _seed_sd(pooled: float, target_seeds: int, where: str) -> float:
    """Relative standard deviation of the target's mean over its seeds, from the grid's pooled seed noise."""
    if math.isnan(pooled):
        raise TableError(
            f"{where}: no cell of the grid has two seeds, so the noise of a run is unknown; give grid.init_seeds two or more"
        )
    return pooled / math.sqrt(target_seeds)


def _spread(samples: NDArray[np.float64]) -> float:
    """Standard deviation from the middle 90 % of the samples; a few degenerate refits do not count."""
    low, high = np.quantile(samples, [0.05, 0.95])
    return float(high - low) / (2 * NormalDist().inv_cdf(0.95))


def _law_forecast(fit: Fit, at: dict[str, float], level: float) -> LawForecast:
    entropy = None
    if "E" in fit.params:
        low, high = fit.interval("E", level)
        entropy = Interval(low=low, high=high, level=level)
    logs = np.log(fit.predict_resamples(**at)[:, 0])
    return LawForecast(
        law=fit.law.name,
        params=fit.theta,
        objective=fit.objective,
        predicted=float(fit.predict(**at)[0]),
        sd=_spread(logs),
        entropy=entropy,
    )
