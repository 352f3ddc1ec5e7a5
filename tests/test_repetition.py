"""Repetition of the text stands in plan, forecast and verdict; a target worse than its grid is remarked on."""

import pytest

from testbed.analysis.forecast import Circumstances, fit_laws, judge, make_forecast
from testbed.analysis.report.study.sentences import forecast_sentence, verdict_sentence
from testbed.config import ForecastSettings, load_config
from testbed.records import DataFacts
from testbed.records.repetition import repetition
from testbed.study.preparation import varied_columns
from testbed.training.sweep import plan
from tests.helpers.planted_sweep import planted_forecast, planted_points, target_facts

REPEATED = ["data.repeat=true", "data.source=text:none"]


def facts(train_tokens):
    return DataFacts(
        source="text:none",
        tokenizer="bytes",
        vocab_size=256,
        seq_len=32,
        first_scored=0,
        train_tokens=train_tokens,
        val_tokens=64 * 32,
        val_bytes=64 * 32,
        entropy=None,
        fingerprint="0" * 64,
    )


@pytest.mark.parametrize(
    ("grid", "target", "words"),
    [
        ([3.7, 13.2], 22.1, "the grid reads its text 3.7 to 13 times and the target 22 times; beyond about 4 times"),
        ([0.2, 0.9], 9, "the grid reads its text once and the target 9 times; beyond about 4 times"),
        ([2, 2], None, "the grid reads its text 2 times"),
        ([0.5, 1.5], 3, "the grid reads its text 1 to 1.5 times and the target 3 times"),
    ],
)
def test_the_sentence(grid, target, words):
    found = repetition(grid, target)
    assert found.sentence(("hoffmann", "kaplan")).startswith(words)
    assert "give more text, or take the law" not in found.sentence(("muennighoff",))


def test_new_text_needs_no_words():
    assert repetition([0.1, 1.0], 1.0) is None
    assert repetition([0.1, 0.5], None) is None


def test_a_plan_names_the_passes(tiny_toml):
    config = load_config(tiny_toml, REPEATED)
    (said,) = [line for line in plan(config, facts(4_096)).warnings if "reads its text" in line]
    assert said.startswith("the grid reads its text 2.5 to 10 times and the target 20 times; beyond about 4 times")
    assert "forecast.laws=" in said
    assert not any("reads its text" in line for line in plan(config, facts(10**6)).warnings)


@pytest.mark.slow
def test_the_law_of_repeated_text_can_be_forecast_with(tiny_toml):
    config = load_config(tiny_toml, [*REPEATED, 'forecast.laws=["muennighoff"]'])
    columns = varied_columns(plan(config, facts(4_096)).target[0])
    assert columns == {"unique_tokens": 4096.0}
    points = planted_points("hoffmann", noise=0.003)
    points["unique_tokens"] = points["tokens"].clip(upper=2e6)
    target = target_facts(points).model_copy(update={"columns": {"unique_tokens": 2e6}})
    settings = ForecastSettings(laws=("muennighoff",), beside=(), bootstrap=100)
    when = Circumstances("repeats", "0" * 64, "2026-01-01T00:00:00+00:00", False, {})
    forecast = make_forecast(points, fit_laws(points, settings, "repeats"), target, settings, when)
    assert forecast.repetition.target == 15
    assert "reads its text 1 to 5 times and the target 15 times." in forecast_sentence(forecast)
    verdict = judge(forecast, points, None, "2026-01-02T00:00:00+00:00")
    assert "the target 15 times." in verdict_sentence(verdict)


@pytest.mark.slow
def test_forecasts_of_new_text_are_sealed_as_before():
    points = planted_points("hoffmann", noise=0.003)
    plain = planted_forecast(points)
    assert planted_forecast(points.assign(unique_tokens=points["tokens"])).digest == plain.digest
    assert "repetition" not in plain.identity()


def test_a_target_worse_than_its_grid_is_remarked_on():
    points = planted_points("hoffmann", noise=0.003)
    forecast = planted_forecast(points)
    good = judge(forecast, points, None, "2026-01-02T00:00:00+00:00")
    assert "worse than the grid" not in verdict_sentence(good)
    best = points[points["role"] == "grid"].groupby(["n_params_non_embedding", "tokens"])["loss"].mean().min()
    points.loc[points["role"] == "target", "loss"] = best * 1.01
    bad = judge(forecast, points, None, "2026-01-02T00:00:00+00:00")
    assert f"That is worse than the grid's best, {best:.4f}, which took less compute" in verdict_sentence(bad)
