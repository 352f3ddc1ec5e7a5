"""Holding a sealed forecast against what the target reached."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from testbed.analysis.laws import find_law
from testbed.errors import SealError, TableError
from testbed.records import Forecast, Verdict

_FARTHEST = 3.0  # decades of compute within which an equivalent is looked for


def judge(forecast: Forecast, points: pd.DataFrame, true_entropy: float | None, judged_at: str) -> Verdict:
    """The verdict on `forecast` from the annealed losses of its target runs in `points`."""
    rows = points[(points["phase"] == "annealed") & points["run"].isin(forecast.target.runs)]
    missing = sorted(set(forecast.target.runs) - set(rows["run"]))
    if missing:
        raise TableError(f"the target's runs {', '.join(missing)} have no annealed loss yet; train them first")
    observed_runs = dict(zip(rows["run"], rows["loss"].astype(float), strict=True))
    observed = float(np.mean(list(observed_runs.values())))
    sd = math.sqrt(forecast.sd_trunks**2 + forecast.sd_seeds**2 + forecast.sd_laws**2)
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
    )


def compute_equivalent(forecast: Forecast, observed: float) -> float | None:
    """The factor on the target's compute at which the forecast says `observed`; N and D grow alike, by its root.

    Above 1 the forecast was too high: by its laws the observed loss would have cost more than was spent.
    None where no factor within three decades either way gives it.
    """

    def excess(log_factor: float) -> float:
        return _log_forecast(forecast, math.exp(log_factor / 2)) - math.log(observed)

    reach = _FARTHEST * math.log(10)
    if not excess(-reach) * excess(reach) <= 0:  # also where a law gives no number there
        return None
    return math.exp(float(brentq(excess, -reach, reach)))


def _log_forecast(forecast: Forecast, scale: float) -> float:
    """Log of the combined laws' loss at the target with N and D both times `scale`."""
    at = {"n": getattr(forecast.target, forecast.n_column) * scale, "tokens": forecast.target.tokens * scale}
    at = {**forecast.target.columns, **at, "flops": 6 * at["n"] * at["tokens"]}
    columns = {name: np.array([float(value)]) for name, value in at.items()}
    logs = []
    for law in forecast.laws:
        theta = {name: np.array([[value]]) for name, value in law.params.items()}
        found = find_law(law.law, "the forecast's law")
        if {p.name for p in found.parameters} != set(theta):
            raise SealError(f"the forecast's law {law.law!r} has not the parameters {', '.join(law.params)[:200]}")
        if not set(found.columns) <= set(columns):
            raise SealError(f"the forecast's law {law.law!r} needs {', '.join(found.columns)} of its target")
        with np.errstate(all="ignore"):
            prepared = found.prepare({name: columns[name] for name in found.columns})
            logs.append(float(np.log(found.value(theta, prepared))[0, 0]))
    return sum(logs) / len(logs)
