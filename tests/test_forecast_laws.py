"""Every law of the library: sealed and judged from its own columns, or refused before anything is sealed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.forecast import Circumstances, check_design, fit_laws, judge, make_forecast
from testbed.analysis.laws import LAWS
from testbed.config import ForecastSettings as Settings
from testbed.errors import ConfigError
from testbed.records import Forecast, TargetFacts
from tests.helpers.planted import PLANTED

WHEN = "2026-01-01T00:00:00+00:00"
CIRCUMSTANCES = Circumstances("planted", "c" * 64, WHEN, False, {"testbed": "0"})
NOISE = 1e-3
OTHER_RESPONSE = {name: f"which predicts {law.response};" for name, law in LAWS.items() if law.response != "loss"}
REFUSED = OTHER_RESPONSE | {
    "vocabulary": "which predicts a loss that may be 0 or negative",
    "vocabulary_tied": "which predicts a loss that may be 0 or negative",
    "tissue": "a law of whole loss curves",
    "tissue_n": "a law of whole loss curves",
    "multi_power": "a law of whole loss curves",
}
SLOW = ("bnsl2", "farseer", "kaplan_trajectory", "goyal_pools4")
FORECAST = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in LAWS if name not in REFUSED]


def planted_study(name: str) -> tuple[pd.DataFrame, TargetFacts]:
    """A points table that follows the planted truth, two seeds a design; its last design is the target.

    N and D are those of the truth, whole numbers, or made up where the law knows neither.
    """
    law, planted = LAWS[name], PLANTED[name]
    table = pd.DataFrame(planted.columns)
    if "flops" in table:
        table["n"] = np.sqrt(table["flops"] / 120)
        table["tokens"] = 20 * table["n"]
    if "tokens_per_param" in table:
        table["tokens"] = table["n"] * table["tokens_per_param"]
    for made_up in {"n", "tokens"} - set(table):
        table[made_up] = np.geomspace(1e6, 1e8, len(table))
    table[["n", "tokens"]] = table[["n", "tokens"]].round()
    n, tokens = table["n"], table["tokens"]
    table = table.assign(flops=6.0 * n * tokens, tokens_per_param=tokens / n)
    theta = {parameter: np.array([[value]]) for parameter, value in planted.params.items()}
    exact = law.value(theta, law.prepare({column: table[column].to_numpy() for column in law.columns}))[0]
    rng, frames = np.random.default_rng(0), []
    role = ["grid"] * (len(table) - 1) + ["target"]
    for seed in range(2):
        runs = [f"{k}-{seed}" for k in range(len(table))]
        losses = exact * np.exp(NOISE * rng.normal(size=len(table)))
        frames.append(table.assign(run=runs, role=role, phase="annealed", loss=losses))
    points = pd.concat(frames, ignore_index=True).rename(columns={"n": "n_params_non_embedding"})
    target = points[points["role"] == "target"]
    first = target.iloc[0]
    known = ("n", "tokens", "flops", "tokens_per_param")
    facts = TargetFacts(
        runs=tuple(target["run"]),
        width=64,
        n_params_non_embedding=int(first["n_params_non_embedding"]),
        n_params_total=int(first["n_params_non_embedding"]),
        tokens=int(first["tokens"]),
        flops=int(first["flops"]),
        columns={column: float(first[column]) for column in law.columns if column not in known},
    )
    return points, facts


@pytest.mark.parametrize("name", FORECAST)
@pytest.mark.slow
def test_a_law_is_sealed_and_judged_by_its_own_columns(name):
    points, target = planted_study(name)
    settings = Settings(laws=(name,), bootstrap=100)
    sealed = make_forecast(points, fit_laws(points, settings, "planted"), target, settings, CIRCUMSTANCES)
    forecast = Forecast.model_validate_json(sealed.model_dump_json())
    assert forecast.digest == forecast.computed_digest()
    verdict = judge(forecast, points, None, WHEN)
    assert abs(verdict.error) < 20 * NOISE
    assert math.isfinite(verdict.z)
    assert verdict.compute_equivalent is None or 0 < verdict.compute_equivalent < math.inf
    assert 0 < forecast.interval.low < forecast.predicted < forecast.interval.high


@pytest.mark.parametrize("name", REFUSED)
def test_a_law_of_something_else_than_a_runs_loss_is_refused(name):
    points, target = planted_study("hoffmann")
    settings = Settings(laws=(name,), bootstrap=100)
    for attempt in (
        lambda: check_design(settings, 100, 2),
        lambda: fit_laws(points, settings, "planted"),
        lambda: make_forecast(points, {}, target, settings, CIRCUMSTANCES),
    ):
        with pytest.raises(ConfigError, match=f"^forecast.laws: found {name}, .*{REFUSED[name]}") as refused:
            attempt()
        assert "\n" not in str(refused.value)


def test_a_column_that_the_target_lacks_is_asked_for_before_anything_is_sealed():
    points, target = planted_study("muennighoff")
    settings = Settings(laws=("muennighoff",), beside=("hoffmann",), bootstrap=100)
    message = r"found muennighoff, which needs unique_tokens of the grid's runs and of the target; give grid\.vary"
    with pytest.raises(ConfigError, match=message):
        check_design(settings, 100, 2)
    check_design(settings, 100, 2, ("unique_tokens",))
    with pytest.raises(ConfigError, match=message):
        fit_laws(points.drop(columns="unique_tokens"), settings, "planted")
    without = target.model_copy(update={"columns": {}})
    with pytest.raises(ConfigError, match=message):
        make_forecast(points, fit_laws(points, settings, "planted"), without, settings, CIRCUMSTANCES)


def test_tokens_per_parameter_are_those_of_the_parameters_that_count_as_n():
    """With n_params_total as N the table's own ratio, of parameters without embeddings, is another one."""
    points, target = planted_study("gadre")
    points = points.assign(n_params_total=points["n_params_non_embedding"])
    points = points.assign(n_params_non_embedding=points["n_params_total"] / 3)
    points = points.assign(tokens_per_param=points["tokens"] / points["n_params_non_embedding"])
    settings = Settings(laws=("gadre",), n="n_params_total", bootstrap=100)
    fits = fit_laws(points, settings, "planted")
    assert fits["gadre"].theta["eta"] == pytest.approx(PLANTED["gadre"].params["eta"], rel=0.1)
    forecast = make_forecast(points, fits, target, settings, CIRCUMSTANCES)
    assert abs(judge(forecast, points, None, WHEN).error) < 20 * NOISE
