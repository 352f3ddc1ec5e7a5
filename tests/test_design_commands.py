from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from testbed.analysis.design import Noise
from testbed.analysis.design.power import power
from testbed.analysis.design.simulation import Planned
from testbed.analysis.laws import LAWS
from testbed.cli.app import app
from testbed.errors import ConfigError, TableError
from tests.helpers.planted_sweep import TRUTH, planted_forecast, planted_points

PLANNED = tuple(Planned(n, (3e5, 1e6, 3e6, 1e7), 6.5 * n, 3) for n in (3e3, 1e4, 3e4, 1e5, 3e5))
TARGET = {"n": 1e6, "tokens": 3e7, "flops": 6.5e6 * 3e7}
LIKE_PLANTED = Noise(0.9 * 0.005, 0.4 * 0.005)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suggest") / "runs.csv"
    planted_points("hoffmann", noise=0.005).to_csv(path, index=False)
    return path


# --- suggest -----------------------------------------------------------------------------------------


def test_suggest_for_a_table_tells_runs_costs_and_intervals(table: Path) -> None:
    found = json.loads(run("suggest", table, "--target", "1M,30M", "--budget", "5e13", "--runs", 3, "--json"))
    assert found["from"] == "fit" and found["target"] == {"n": 1e6, "tokens": 3e7, "flops": 1.8e14}
    assert 1 <= sum(row["seeds"] for row in found["runs"]) <= 3
    widths = [found["half_width"], *(row["half_width_after"] for row in found["runs"])]
    assert widths == sorted(widths, reverse=True) and widths[-1] > found["half_width_least"] > 0
    assert found["flops"] <= 5e13
    assert found["flops"] == pytest.approx(sum(6 * r["n"] * r["tokens"][0] * r["seeds"] for r in found["runs"]))
    more = json.loads(run("suggest", table, "--params", "1M", "--tokens", "30M", "--budget", "9e13", "--json"))
    assert more["half_width"] == found["half_width"] and more["half_width_after"] < found["half_width_after"]
    text = run("suggest", table, "--target", "1M,30M", "--budget", "5e13")
    assert "90 % interval" in text and "expected after it" in text


def test_the_width_now_is_that_of_predict(table: Path, tmp_path: Path) -> None:
    run("fit", table, "-o", tmp_path / "fit.json", "--bootstrap", 20)
    told = json.loads(run("predict", tmp_path / "fit.json", "--params", "1M", "--tokens", "30M", "--json"))
    now = json.loads(run("suggest", table, "--target", "1M,30M", "--json"))
    low, high = told["interval"]
    assert now["predicted"] == pytest.approx(told["loss"], rel=1e-9)
    assert now["half_width"] == pytest.approx(np.sqrt(high / low) - 1, rel=1e-6)


def test_suggest_for_a_configuration_without_runs_takes_the_prior(tiny_toml: Path) -> None:
    found = json.loads(run("suggest", tiny_toml, "--runs", 6, "--budget", "100G", "--json"))
    assert found["from"] == "prior" and found["predicted"] is None
    assert {row["rung"] for row in found["runs"]} <= {8, 16, 24, 32}
    assert any(len(row["tokens"]) > 1 for row in found["runs"])  # horizons that share a trunk
    assert "prior" in found["notes"][0] and "finished runs stay as they are" in found["notes"][1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "1M"), "accepted: N,D such as"),
        (("--target", "1M,30M", "--params", "1M"), "accepted: N,D such as"),
        (("--target", "x,30M"), "--params: a count is"),
        (("--target", "0,30M"), "--params: found 0"),
        (("--params", "1M"), "--tokens is missing"),
        ((), "say what for: --target N,D"),
        (("--target", "1M,30M", "--law", "muennighoff"), "needs unique_tokens"),
        (("--target", "1M,30M", "--law", "u_shape"), "is of accuracy, not of a log loss"),
        (("--target", "1M,30M", "--budget", "1"), "less than the cheapest candidate"),
        (("--target", "1M,30M", "--runs", "0"), "runs: found 0"),
        (("--target", "3K,3e5"), "no candidate run costs"),
        (("--target", "1M,30M", "--set", "a=1"), "--set is for a CONFIG"),
    ],
)
def test_what_suggest_cannot_do_is_told(table: Path, arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run("suggest", table, *arguments)
    assert said in str(caught.value)


def test_a_table_that_cannot_be_fitted_is_refused(tmp_path: Path) -> None:
    planted_points("hoffmann").head(4).to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(TableError, match="4 rows for the 5 parameters of hoffmann"):
        run("suggest", tmp_path / "few.csv", "--target", "1M,30M")


# --- plan --power ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_simulated_studies_have_the_interval_that_would_be_sealed() -> None:
    truth = (LAWS["hoffmann"], TRUTH["hoffmann"])
    found = power(
        PLANNED, ("hoffmann", "kaplan"), LIKE_PLANTED, target=TARGET, target_seeds=2, truth=truth, studies=150
    )
    sealed = [planted_forecast(planted_points("hoffmann", noise=0.005, seed=seed)).interval for seed in range(5)]
    widths = [np.log(interval.high / interval.low) / 2 for interval in sealed]
    assert np.median(found.half_widths) == pytest.approx(np.median(widths), rel=0.12)
    assert 0.75 <= found.covered <= 1


@pytest.mark.slow
def test_less_noise_and_more_seeds_tell_smaller_differences() -> None:
    truth = (LAWS["hoffmann"], TRUTH["hoffmann"])

    def told(noise: float, seeds: int) -> dict[str, tuple[float, float]]:
        planned = tuple(rung._replace(seeds=seeds) for rung in PLANNED)
        found = power(planned, ("hoffmann",), Noise(noise, noise / 2), truth=truth, studies=60, resamples=40)
        assert found.half_widths.size == 0
        return {one.name: (one.width, one.difference or np.inf) for one in found.parameters}

    plain, quiet, many = told(0.004, 3), told(0.002, 3), told(0.004, 12)
    for name in ("alpha", "beta", "E"):
        assert quiet[name] < plain[name] and many[name] < plain[name]
        assert quiet[name][1] == pytest.approx(plain[name][1] / 2, rel=0.25)
        assert many[name][1] == pytest.approx(plain[name][1] / 2, rel=0.25)


def test_a_difference_that_is_told_is_told_by_four_studies_of_five() -> None:
    from testbed.analysis.design.simulation import Simulator

    simulator = Simulator(PLANNED, ("hoffmann",), LIKE_PLANTED, 0.01)
    found = power(PLANNED, ("hoffmann",), LIKE_PLANTED, truth=(LAWS["hoffmann"], TRUTH["hoffmann"]), studies=20)
    alpha = next(one for one in found.parameters if one.name == "alpha")
    assert alpha.value == pytest.approx(0.35, rel=1e-6) and alpha.difference is not None
    phi = simulator.nearest(0, simulator.means(LAWS["hoffmann"], TRUTH["hoffmann"]))
    null = simulator.estimates(phi, 2000, 11)[:, 3]
    there = simulator.estimates(simulator.moved(0, phi, "alpha", 0.35 + alpha.difference), 2000, 12)[:, 3]
    critical = np.quantile(np.abs(null - 0.35), 0.95)
    assert (np.abs(there - 0.35) > critical).mean() == pytest.approx(0.8, abs=0.06)


@pytest.mark.slow
def test_plan_power_says_under_what_and_what_it_cannot_tell(tiny_toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.analysis.design.power._STUDIES_A_DIFFERENCE", 200)
    one = ("--set", 'forecast.laws=["hoffmann"]')
    text = run("plan", tiny_toml, "--power", "--noise", ".004", *one)
    assert "under the prior" in text and "cannot tell" in text and "noise" in text
    truth = "hoffmann:A=30,B=900,E=1.2,alpha=.35,beta=.45"
    found = json.loads(run("plan", tiny_toml, "--power", "--noise", ".004", "--truth", truth, "--json", *one))
    assert set(found["parameters"]) == {"alpha", "beta", "E"}
    assert found["parameters"]["alpha"]["value"] == pytest.approx(0.35, rel=1e-4)
    assert found["target"]["half_width"] > 0
    assert np.hypot(*found["noise"].values()) == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ("hoffmann", "accepted: LAW:NAME=NUMBER"),
        ("hoffmann:A=1", "hoffmann has A, B, E, alpha, beta"),
        ("x:A=1", "unknown law"),
    ],
)
def test_a_truth_that_is_none_is_refused(tiny_toml: Path, truth: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run("plan", tiny_toml, "--power", "--truth", truth)
