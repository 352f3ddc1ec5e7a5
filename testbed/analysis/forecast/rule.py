"""The rule by which a forecast is made from a grid: the laws, their combination, and the interval around it.

The interval has three parts, each a relative standard deviation: the laws refitted to resampled trunks (inflated for
the finite number of seeds), the seed noise of the target's mean, and the disagreement of the laws, between which
the truth may lie anywhere, evenly likely (see `combination`).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.fit.intervals import percentiles
from testbed.analysis.forecast.baselines import baselines
from testbed.analysis.forecast.combination import combine, resampling_sd
from testbed.analysis.forecast.entropy import entropy
from testbed.analysis.laws import Law, find_law
from testbed.config import ForecastSettings
from testbed.errors import ConfigError, TableError
from testbed.points import annealed_only, fit_columns, map_columns, points_digest
from testbed.records import Forecast, Interval, LawForecast, MissingCell, Retried, TargetFacts
from testbed.records.repetition import Repetition, repetition

_N_AND_TOKENS = ("n", "tokens")
_DERIVED = ("flops", "tokens_per_param")  # 6 N D and D / N, of N and D as the forecast counts them


@dataclass(frozen=True)
class Circumstances:
    """The facts that are sealed with a forecast, besides what follows from the points.

    `config_hash` is the configuration's, `sealed_at` an ISO 8601 time, `after_the_fact` whether the target had logged
    losses by then, `versions` those of the packages that fitted. `missing` are cells of the grid that the points
    lack because their run failed; `retried` are runs that replaced a diverged one, at a lower learning rate.
    """

    study: str
    config_hash: str
    sealed_at: str
    after_the_fact: bool
    versions: dict[str, str]
    missing: tuple[MissingCell, ...] = ()
    retried: tuple[Retried, ...] = ()


def check_design(settings: ForecastSettings, cells: int, seeds: int, columns: Collection[str] = ()) -> None:
    """Refuse a grid that could be trained but not forecast from.

    `cells` are its combinations of width and horizon, `seeds` the runs of each; `columns` are those that its runs and
    the target have besides N and D: one for each axis of the grid.

    Raises:
        ConfigError: A law has as many parameters as the grid has cells, or cannot be forecast with (see
            `make_forecast`); or every cell has a single seed.
    """
    for law in _usable_laws(settings, columns):
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


def check_remaining(settings: ForecastSettings, points: pd.DataFrame, where: str) -> None:
    """Refuse a grid whose failed runs left too few points to forecast from.

    Raises:
        ConfigError: As `check_design`, for the cells and seeds that are left in `points`.
    """
    grid = _grid(points, where)
    seeds = grid.groupby([settings.n, "tokens"]).size()
    try:
        check_design(settings, len(seeds), int(seeds.max()), points.columns)
    except ConfigError as error:
        raise ConfigError(
            f"{where}: too little is left without the failed runs ({error}); try them again with --retry-failed"
        ) from None


def fit_laws(points: pd.DataFrame, settings: ForecastSettings, where: str) -> dict[str, Fit]:
    """Every law of the configuration, fitted to the seed means of the grid's annealed points.

    `points` is a points table (columns `testbed.points.COLUMNS`); `where` names it in messages.

    Raises:
        ConfigError: A law cannot be forecast with (see `make_forecast`).
        TableError: The points cannot be fitted.
    """
    clean = _clean(_grid(points, where), settings, where)
    names = dict.fromkeys((*settings.laws, *settings.beside))
    return {
        name: fit_law(
            name, clean, delta=settings.delta, replicates="mean", n_boot=settings.bootstrap, seed=settings.seed
        )
        for name in names
    }


def make_forecast(
    points: pd.DataFrame,
    fits: dict[str, Fit],
    target: TargetFacts,
    settings: ForecastSettings,
    circumstances: Circumstances,
) -> Forecast:
    """The forecast of `target` by the laws fitted to the grid in `points`, sealed with its digest.

    `fits` are those of `fit_laws`. The prediction, in nats/token, is the geometric mean of the laws' predictions.

    Raises:
        ConfigError: A law cannot be forecast with: it predicts something other than the loss, is a law of whole loss
            curves, or needs a column that the target does not have.
        TableError: No cell of the grid has two seeds.

    >>> cells = [(n, d, seed) for n in (1e4, 3e4, 1e5) for d in (1e6, 3e6, 1e7) for seed in (0, 1)]
    >>> grid = pd.DataFrame(cells, columns=["n_params_non_embedding", "tokens", "seed"])
    >>> n, tokens, seed = (grid[name] for name in grid)
    >>> loss = (1.2 + 30 / n**0.35 + 900 / tokens**0.45) * (1 + 0.002 * seed)
    >>> runs = n.astype(str) + "-" + seed.astype(str)
    >>> points = grid.assign(run=runs, role="grid", phase="annealed", flops=6 * n * tokens, loss=loss)
    >>> target = TargetFacts(
    ...     runs=("target",), width=64, n_params_non_embedding=10**6, n_params_total=2 * 10**6, tokens=10**8, flops=6 * 10**14
    ... )
    >>> settings = ForecastSettings(laws=("hoffmann",), bootstrap=100)
    >>> when = Circumstances("example", "0" * 64, "2026-01-01T00:00:00+00:00", False, {})
    >>> forecast = make_forecast(points, fit_laws(points, settings, "example"), target, settings, when)
    >>> round(forecast.predicted, 2), forecast.digest == forecast.computed_digest()
    (1.67, True)
    >>> from testbed.analysis.forecast import judge
    >>> reached = points.tail(1).assign(run="target", role="target", loss=1.68)
    >>> judge(forecast, reached, None, "2026-01-02T00:00:00+00:00").hit
    True
    """
    at = target_columns(target, settings.n)
    _usable_laws(settings, at)
    grid = _grid(points, circumstances.study)
    clean = _clean(grid, settings, circumstances.study)
    rows = next(iter(fits.values())).rows
    combined = combine(
        [math.log(fits[name].predict(**at)[0]) for name in settings.laws],
        [np.log(fits[name].predict_resamples(**at)[:, 0]) for name in settings.laws],
        _run_sd(rows.noise_sd(), circumstances.study),
        len(target.runs),
    )
    middle, half = float(combined.centre), float(combined.half_width(settings.level))
    cells = grid.groupby([settings.n, "tokens"], as_index=False)[["flops", "loss"]].mean()
    forecast = Forecast(
        study=circumstances.study,
        config_hash=circumstances.config_hash,
        sealed_at=circumstances.sealed_at,
        after_the_fact=circumstances.after_the_fact,
        target=target,
        compute_ratio=target.flops / float(grid["flops"].max()),
        rule=describe_rule(settings),
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
        sd_trunks=float(combined.sd_trunks),
        sd_seeds=float(combined.sd_seeds),
        sd_laws=float(combined.sd_laws),
        laws=tuple(_law_forecast(fits[name], at, settings.level) for name in settings.laws),
        beside=tuple(_law_forecast(fits[name], at, settings.level) for name in settings.beside),
        entropy=entropy(clean, settings),
        baselines=baselines(cells, target.flops),
        versions=circumstances.versions,
        missing=circumstances.missing,
        retried=circumstances.retried,
        repetition=_repetition(grid, target),
    )
    return forecast.sealed()


def describe_rule(settings: ForecastSettings) -> str:
    """The combination of the laws, as sentences and tables name it."""
    if len(settings.laws) == 1:
        return settings.laws[0]
    return f"geometric mean of {', '.join(settings.laws[:-1])} and {settings.laws[-1]}"


def target_columns(target: TargetFacts, n_column: str, scale: float = 1.0) -> dict[str, float]:
    """The target's value of every column that a law may need, with its N and D both times `scale`."""
    n, tokens = float(getattr(target, n_column)) * scale, float(target.tokens) * scale
    return {**target.columns, "n": n, "tokens": tokens, "flops": 6 * n * tokens, "tokens_per_param": tokens / n}


def measured_columns(law: Law) -> tuple[str, ...]:
    """The columns of a points table that this law is evaluated from: n, tokens, and those that do not follow from them."""
    return (*_N_AND_TOKENS, *(name for name in law.columns if name not in (*_N_AND_TOKENS, *_DERIVED)))


def follows_from_n_and_tokens(law: Law) -> bool:
    """Whether N and D are all that this law needs to know of a run, C being 6 N D."""
    return measured_columns(law) == _N_AND_TOKENS


def _usable_laws(settings: ForecastSettings, columns: Collection[str]) -> list[Law]:
    """The configuration's laws; ConfigError for one that cannot be forecast with, given `columns` besides N and D."""
    found = []
    for key, names in (("forecast.laws", settings.laws), ("forecast.beside", settings.beside)):
        for name in names:
            law = find_law(name)
            reason = _reason_against(law, {*columns, *_N_AND_TOKENS, *_DERIVED})
            if reason:
                raise ConfigError(f"{key}: found {law.name}, {reason}")
            found.append(law)
    return found


def _reason_against(law: Law, columns: set[str]) -> str | None:
    """Why no forecast can be made with this law from these columns; None where one can."""
    if law.response != "loss":
        return f"which predicts {law.response}; accepted: laws that predict the loss"
    if law.space != "log":
        return "which predicts a loss that may be 0 or negative; accepted: laws of the logarithm of the loss"
    if "run" in law.columns:
        return "a law of whole loss curves, and a forecast has one annealed loss a run and horizon; take another law"
    missing = [name for name in law.columns if name not in columns]
    if missing:
        return (
            f"which needs {', '.join(missing)} of the grid's runs and of the target; give grid.vary and target.at a key "
            "for it, or take a law of n and tokens"
        )
    return None


def _grid(points: pd.DataFrame, where: str) -> pd.DataFrame:
    return annealed_only(points[points["role"] == "grid"], where)


def _clean(grid: pd.DataFrame, settings: ForecastSettings, where: str) -> pd.DataFrame:
    """The columns that are fitted, under the laws' names; what follows from N and D is left to the fit."""
    laws = _usable_laws(settings, grid.columns)
    further = sorted({name for law in laws for name in measured_columns(law)} - set(_N_AND_TOKENS))
    positive = {*_N_AND_TOKENS, "loss", *(name for law in laws if law.positive for name in law.columns)}
    mapping = map_columns(grid, (*_N_AND_TOKENS, *further, "loss"), {"n": settings.n}, where)
    return fit_columns(grid, mapping, where, positive)


def _run_sd(pooled: float, where: str) -> float:
    """The relative standard deviation of one run between seeds; TableError where it is not known."""
    if math.isnan(pooled):
        raise TableError(
            f"{where}: no cell of the grid has two seeds, so the noise of a run is unknown; give grid.init_seeds two or more"
        )
    return pooled


def _repetition(grid: pd.DataFrame, target: TargetFacts) -> Repetition | None:
    """How often the text is read, as far as the points say."""
    if "unique_tokens" not in grid or grid["unique_tokens"].isna().any():
        return None
    unique = target.columns.get("unique_tokens")
    return repetition(grid["tokens"] / grid["unique_tokens"], None if unique is None else target.tokens / unique)


def _law_forecast(fit: Fit, at: dict[str, float], level: float) -> LawForecast:
    entropy = None
    if "E" in fit.params:
        bounds = percentiles(fit, level)
        entropy = Interval(low=float(bounds["low"]["E"]), high=float(bounds["high"]["E"]), level=level)
    return LawForecast(
        law=fit.law.name,
        params=fit.theta,
        objective=fit.objective,
        predicted=float(fit.predict(**at)[0]),
        sd=float(resampling_sd(np.log(fit.predict_resamples(**at)[:, 0]))),
        entropy=entropy,
    )
