import math

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.forecast import Circumstances, compute_equivalent, fit_laws, judge, make_forecast
from testbed.analysis.forecast.baselines import baselines
from testbed.analysis.forecast.entropy import entropy
from testbed.analysis.report.study import sentences as words
from testbed.config import ForecastSettings as Settings
from testbed.errors import TableError
from testbed.records import Forecast, Verdict
from tests.helpers.planted_sweep import TRUTH, clean, planted_forecast, planted_points, target_facts

LATER = "2026-01-02T00:00:00+00:00"


def test_a_noiseless_law_is_forecast_exactly():
    for law in TRUTH:
        points = planted_points(law, noise=1e-9)
        forecast = planted_forecast(points, laws=(law,))
        verdict = judge(forecast, points, None, LATER)
        assert abs(verdict.error) < 1e-6
        assert forecast.sd_laws == 0.0


@pytest.mark.slow
def test_the_forecast_is_the_geometric_mean_of_its_laws():
    forecast = planted_forecast(planted_points("hoffmann", noise=0.005))
    logs = [math.log(law.predicted) for law in forecast.laws]
    assert math.log(forecast.predicted) == pytest.approx(np.mean(logs))
    assert forecast.rule == "geometric mean of hoffmann and kaplan"
    assert forecast.sd_laws == pytest.approx(abs(logs[0] - logs[1]) / math.sqrt(12))


@pytest.mark.slow
def test_the_interval_is_made_of_its_three_parts():
    points = planted_points("hoffmann", noise=0.005)
    forecast = planted_forecast(points)
    sd = math.sqrt(forecast.sd_trunks**2 + forecast.sd_seeds**2 + forecast.sd_laws**2)
    assert math.log(forecast.interval.high / forecast.predicted) == pytest.approx(1.6449 * sd, rel=1e-4)
    assert math.log(forecast.predicted / forecast.interval.low) == pytest.approx(1.6449 * sd, rel=1e-4)
    many = planted_forecast(planted_points("hoffmann", noise=0.005, seeds=20))
    assert many.sd_seeds == pytest.approx(0.005 * math.hypot(0.9, 0.4) / math.sqrt(2), rel=0.2)


@pytest.mark.slow
def test_intervals_keep_their_promise_on_planted_tables():
    hits = 0
    for seed in range(30):
        points = planted_points("hoffmann", noise=0.007, seed=seed)
        hits += judge(planted_forecast(points, laws=("hoffmann",), bootstrap=100), points, None, LATER).hit
    assert hits >= 24, hits  # nominal 27; fewer than 24 has a chance of 3 % at 90 %, of 84 % at 70 %


def test_the_seal_covers_everything(sealed_forecast):
    assert sealed_forecast.digest == sealed_forecast.computed_digest()
    for name in Forecast.model_fields:
        if name in ("digest", "beside", "entropy"):
            continue
        value = getattr(sealed_forecast, name)
        changed = {bool: lambda v: not v, float: lambda v: v + 1, int: lambda v: v + 1, str: lambda v: v + "x"}
        if type(value) in changed:
            assert (
                sealed_forecast.model_copy(update={name: changed[type(value)](value)}).computed_digest()
                != sealed_forecast.digest
            )


def test_a_forecast_comes_back_from_its_file_to_the_bit(sealed_forecast):
    again = Forecast.model_validate_json(sealed_forecast.model_dump_json())
    assert again == sealed_forecast
    assert again.digest == again.computed_digest()


@pytest.mark.slow
def test_the_forecast_knows_nothing_of_the_target():
    points = planted_points("hoffmann", noise=0.005)
    without = points[points["role"] == "grid"]
    moved = points.assign(loss=points["loss"].where(points["role"] == "grid", 99.0))
    first = planted_forecast(points)
    settings = Settings(bootstrap=100)
    circumstances = Circumstances("planted", "c" * 64, "2026-01-01T00:00:00+00:00", False, {"testbed": "0"})
    for table in (without, moved):
        fits = fit_laws(table, settings, "planted")
        assert make_forecast(table, fits, target_facts(points), settings, circumstances) == first


@pytest.mark.slow
def test_only_annealed_losses_are_fitted():
    points = planted_points("hoffmann", noise=0.005)
    stable = points.query("role == 'grid'").assign(phase="stable", loss=lambda t: t["loss"] + 0.2)
    mixed = planted_forecast(pd.concat([points, stable], ignore_index=True))
    assert mixed == planted_forecast(points)


@pytest.mark.slow
def test_a_forecast_after_the_fact_says_so_everywhere():
    points = planted_points("hoffmann", noise=0.005)
    forecast = planted_forecast(points, after_the_fact=True)
    verdict = judge(forecast, points, None, LATER)
    assert forecast.after_the_fact
    assert verdict.after_the_fact
    for sentence in (words.forecast_sentence(forecast), words.verdict_sentence(verdict)):
        assert sentence.endswith("made after its target had been trained: it is no test of the law.")
    before = planted_forecast(points)
    for sentence in (words.forecast_sentence(before), words.verdict_sentence(judge(before, points, None, LATER))):
        assert "after its target" not in sentence


def test_the_verdict_by_hand():
    points = planted_points("hoffmann", noise=0.005)
    forecast = planted_forecast(points)
    target = points[points["role"] == "target"]
    verdict = judge(forecast, points, 1.2, LATER)
    assert verdict.observed == pytest.approx(target["loss"].mean())
    assert verdict.observed_runs == dict(zip(target["run"], target["loss"], strict=True))
    assert verdict.error == pytest.approx(forecast.predicted / verdict.observed - 1)
    assert verdict.hit == (forecast.interval.low <= verdict.observed <= forecast.interval.high)
    sd = math.log(forecast.interval.high / forecast.predicted) / 1.6449
    assert verdict.z == pytest.approx(math.log(forecast.predicted / verdict.observed) / sd, rel=1e-3)
    assert verdict.law_errors["hoffmann"] == pytest.approx(forecast.laws[0].predicted / verdict.observed - 1)
    assert verdict.entropy_held == (forecast.entropy.interval.low <= 1.2 <= forecast.entropy.interval.high)


@pytest.mark.parametrize(("factor", "sign"), [(1.01, 1), (0.99, -1), (1.0, 0)])
def test_compute_equivalent_error(factor, sign):
    """A target better than its forecast is worth more compute than it had, and the other way round."""
    points = planted_points("hoffmann", noise=1e-9)
    forecast = planted_forecast(points, laws=("hoffmann",))
    equivalent = compute_equivalent(forecast, forecast.predicted / factor)
    assert math.copysign(1, math.log(equivalent)) == sign or sign == 0
    root = math.sqrt(equivalent)
    theta = forecast.laws[0].params
    n, tokens = forecast.target.n_params_non_embedding * root, forecast.target.tokens * root
    loss = theta["E"] + theta["A"] * n ** -theta["alpha"] + theta["B"] * tokens ** -theta["beta"]
    assert loss == pytest.approx(forecast.predicted / factor)


def test_a_loss_below_the_irreducible_has_no_equivalent():
    forecast = planted_forecast(planted_points("hoffmann", noise=1e-9), laws=("hoffmann",))
    assert compute_equivalent(forecast, 0.5 * forecast.laws[0].params["E"]) is None
    verdict = judge(forecast, planted_points("hoffmann", noise=1e-9), None, LATER)
    assert "no amount of compute" in words.equivalent_sentence(verdict.model_copy(update={"compute_equivalent": None}))


def test_baselines_by_hand():
    cells = pd.DataFrame({"flops": [1e9, 1e10, 2e10, 1e11], "loss": [4.0, 4.0 * 10**-0.1, 9.0, 4.0 * 10**-0.2]})
    guesses = baselines(cells, 1e12)
    assert guesses["last point"] == pytest.approx(4.0 * 10**-0.2)
    assert guesses["power law in compute"] == pytest.approx(4.0 * 10**-0.3)


@pytest.mark.slow
def test_entropy_is_held_where_the_law_is_true_and_refused_where_the_laws_disagree():
    settings = Settings(laws=("hoffmann",), bootstrap=200)
    found = entropy(clean(planted_points("hoffmann", noise=0.001, seeds=5)), settings)
    assert found.interval.low <= TRUTH["hoffmann"]["E"] <= found.interval.high
    assert found.identified
    both = entropy(clean(planted_points("hoffmann", noise=0.02)), Settings(bootstrap=200))
    assert not both.identified
    assert both.interval.low <= TRUTH["hoffmann"]["E"] <= both.interval.high


@pytest.mark.slow
def test_what_cannot_be_forecast_is_told():
    single = planted_points("hoffmann", noise=0.005, seeds=1)
    with pytest.raises(TableError, match="no cell of the grid has two seeds"):
        planted_forecast(single)
    points = planted_points("hoffmann", noise=0.005)
    points.loc[3, "loss"] = math.nan
    with pytest.raises(TableError, match="row 4: loss is nan; accepted: a finite number above 0"):
        planted_forecast(points)
    forecast = planted_forecast(planted_points("hoffmann", noise=0.005))
    with pytest.raises(TableError, match="have no annealed loss yet"):
        judge(forecast, planted_points("hoffmann").query("role == 'grid'"), None, LATER)


def test_sentences_say_the_numbers():
    points = planted_points("hoffmann", noise=0.005)
    forecast = planted_forecast(points)
    verdict = judge(forecast, points, None, LATER)
    assert f"{forecast.predicted:.4f} nats/token" in words.forecast_sentence(forecast)
    assert f"{verdict.observed:.4f}" in words.verdict_sentence(verdict)
    assert ("inside" if verdict.hit else "OUTSIDE") in words.verdict_sentence(verdict)
    missed = Verdict(**verdict.model_dump() | {"hit": False})
    assert "OUTSIDE" in words.verdict_sentence(missed)
