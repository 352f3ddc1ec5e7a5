"""The verdict: a sealed forecast against the loss that its target reached."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from testbed.analysis.forecast.combination import total_sd
from testbed.analysis.forecast.rule import target_columns
from testbed.analysis.laws import find_law
from testbed.errors import SealError, TableError
from testbed.records import Forecast, Verdict

_MOST_DECADES = 3.0  # of compute, either way, within which an equivalent is searched for


def judge(forecast: Forecast, points: pd.DataFrame, true_entropy: float | None, judged_at: str) -> Verdict:
    """The verdict on `forecast` from the annealed losses of its target's runs in `points`.

    `true_entropy` is the irreducible loss in nats/token where the source's is known; `judged_at` an ISO 8601 time.

    Raises:
        TableError: A run of the target has no annealed loss, or the forecast's interval has no width.
        SealError: The forecast names a law that is not the one it was made with.
    """
    rows = points[(points["phase"] == "annealed") & points["run"].isin(forecast.target.runs)]
    missing = sorted(set(forecast.target.runs) - set(rows["run"]))
    if missing:
        raise TableError(f"the target's runs {', '.join(missing)} have no annealed loss yet; train them first")
    observed_runs = dict(zip(rows["run"], rows["loss"].astype(float), strict=True))
    observed = float(np.mean(list(observed_runs.values())))
    sd = float(total_sd(forecast.sd_trunks, forecast.sd_seeds, forecast.sd_laws))
    if sd == 0 or observed <= 0:
        raise TableError(
            f"no verdict: the forecast's interval has a width of {sd:g}, and the target reached {observed:g}"
        )
    interval = forecast.interval
    entropy = forecast.entropy
    return Verdict(
        forecast_digest=forecast.digest,
        judged_at=judged_at,
        after_the_fact=forecast.after_the_fact,
        predicted=forecast.predicted,
        interval=interval,
        observed=observed,
        observed_runs=observed_runs,
        error=forecast.predicted / observed - 1,
        hit=interval.low <= observed <= interval.high,
        z=math.log(forecast.predicted / observed) / sd,
        compute_equivalent=compute_equivalent(forecast, observed),
        law_errors={law.law: law.predicted / observed - 1 for law in (*forecast.laws, *forecast.beside)},
        baseline_errors={name: guess / observed - 1 for name, guess in forecast.baselines.items()},
        true_entropy=true_entropy,
        entropy_held=None
        if true_entropy is None or entropy is None
        else entropy.interval.low <= true_entropy <= entropy.interval.high,
        best_of_grid=_best_of_grid(points, forecast.n_column),
        repetition=forecast.repetition,
    )


def _best_of_grid(points: pd.DataFrame, n_column: str) -> float | None:
    grid = points[(points["role"] == "grid") & (points["phase"] == "annealed")]
    return None if grid.empty else float(grid.groupby([n_column, "tokens"])["loss"].mean().min())


def compute_equivalent(forecast: Forecast, observed: float) -> float | None:
    """The factor on the target's compute at which the forecast predicts the loss `observed`, in nats/token.

    N and D each grow by the factor's root. Below 1 the target did worse than forecast: the laws promise its loss for
    less compute; above 1 it did better. None where no factor within three decades either way gives that loss.
    """

    def excess(log_factor: float) -> float:
        return _log_forecast(forecast, math.exp(log_factor / 2)) - math.log(observed)

    reach = _MOST_DECADES * math.log(10)
    if not excess(-reach) * excess(reach) <= 0:  # also where a law gives no number there
        return None
    return math.exp(float(brentq(excess, -reach, reach)))


def _log_forecast(forecast: Forecast, scale: float) -> float:
    """Log of the combined laws' loss at the target with N and D both times `scale`."""
    at = target_columns(forecast.target, forecast.n_column, scale)
    logs = []
    for sealed in forecast.laws:
        law = find_law(sealed.law, "the forecast's law")
        if {p.name for p in law.parameters} != set(sealed.params):
            raise SealError(
                f"the forecast's law {sealed.law!r} does not have the parameters {', '.join(sealed.params)[:200]}"
            )
        if not set(law.columns) <= set(at):
            raise SealError(f"the forecast's law {sealed.law!r} needs {', '.join(law.columns)} of its target")
        theta = {name: np.array([[value]]) for name, value in sealed.params.items()}
        with np.errstate(all="ignore"):
            prepared = law.prepare({name: np.array([at[name]]) for name in law.columns})
            logs.append(float(np.log(law.value(theta, prepared))[0, 0]))
    return sum(logs) / len(logs)
