import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit
from scipy.stats import t as student_t

from testbed.analysis.fit import fit_law
from testbed.analysis.fit.heldout.backtest import _gauss_newton, backtest, backtest_fit
from testbed.analysis.fit.heldout.coverage import ALL, METHODS, cells, distance, scored, summarised
from testbed.analysis.laws import LAWS
from testbed.errors import ConfigError, TableError
from tests.helpers.backtest_tables import design_tables, fresh_tables
from tests.helpers.planted import PLANTED, noisy
from tests.helpers.public_tables import needs_shared

HOFFMANN = LAWS["hoffmann"]


def points(noise=0.003, seed=0):
    return noisy(HOFFMANN, PLANTED["hoffmann"], noise, seed)


# --- scores -----------------------------------------------------------------------------------


def test_an_interval_pays_for_its_width_and_for_what_it_misses():
    ends = (np.zeros(3), np.full(3, -1.0), np.full(3, 1.0))
    rows = scored("kriging", ends, np.array([0.5, 1.2, -3.0]), 0.9, "linear")
    assert rows["covered"].tolist() == [True, False, False]
    np.testing.assert_allclose(rows["score"], [2.0, 2.0 + 20 * 0.2, 2.0 + 20 * 2.0])
    np.testing.assert_allclose(rows["error"], [0.5, 1.2, 3.0])
    natural = scored("kriging", ends, np.array([0.5, 1.2, -3.0]), 0.9, "log")
    np.testing.assert_allclose(natural["high"], np.e)
    np.testing.assert_allclose(natural["score"], rows["score"])


def test_averages_are_over_cells_and_not_over_rows():
    crowd = pd.DataFrame({"cut": 1.0, "gap": [0.1] * 9, "covered": True, "width": 1.0, "score": 1.0, "error": 0.0})
    alone = pd.DataFrame({"cut": [1.0], "gap": [0.4], "covered": False, "width": 3.0, "score": 9.0, "error": 1.0})
    table = summarised(cells(pd.concat([crowd, alone]).assign(method="kriging"))).set_index("distance")
    assert table.loc["0 to 0.25", "coverage"] == 1.0
    assert table.loc["0.25 to 0.5", "coverage"] == 0.0
    assert table.loc[ALL, ["coverage", "width", "score", "error", "cells"]].tolist() == [0.5, 2.0, 5.0, 0.5, 2]


def test_distances_have_names():
    names = distance(pd.Series([0.02, 0.25, 0.26, 0.9, 1.2, 2.5, 3.0]))
    expected = ["0 to 0.25", "0 to 0.25", "0.25 to 0.5", "0.5 to 1", "1 to 1.5", "1.5 to 2.5", "above 2.5"]
    assert names.tolist() == expected


def test_gauss_newton_is_that_of_scipys_curve_fit():
    fit = fit_law("hoffmann", points(), loss="ls", n_boot=0)
    table, target = points(), {"n": np.array([1e10]), "tokens": np.array([3e11])}

    def law(x, *theta):
        named = {p.name: np.array([[value]]) for p, value in zip(HOFFMANN.parameters, theta, strict=True)}
        return np.log(HOFFMANN.value(named, {"n": x[0], "tokens": x[1]})[0])

    start = list(fit.theta.values())
    found, covariance = curve_fit(law, table[["n", "tokens"]].to_numpy().T, np.log(table["loss"]), start)
    ahead = np.array([[target["n"][0]], [target["tokens"][0]]])
    steps = 1e-5 * found
    slope = np.array(
        [(law(ahead, *(found + steps * one)) - law(ahead, *(found - steps * one)))[0] for one in np.eye(5)]
    ) / (2 * steps)
    spread = np.sqrt(slope @ covariance @ slope + fit.resid @ fit.resid / fit.df_resid)
    expected = student_t.ppf(0.95, fit.df_resid) * spread
    assert _gauss_newton(fit, target, 0.9)[0] == pytest.approx(expected, rel=1e-3)


# --- the protocol -----------------------------------------------------------------------------


def test_what_is_predicted_lies_above_the_cut_and_is_of_the_fitted_kind():
    table = points()
    rows = backtest("hoffmann", table, n_boot=20).predictions
    compute = np.log10(6 * table["n"] * table["tokens"])
    ratio = np.log10(table["tokens"] / table["n"])
    assert set(rows["method"]) == set(METHODS)
    for cut, part in rows.groupby("cut"):
        below = compute <= cut
        above = part["row"].to_numpy()
        assert (compute[above] > cut).all()
        assert (ratio[above] <= ratio[below].max() + 0.3).all()
        assert (ratio[above] >= ratio[below].min() - 0.05).all()
        np.testing.assert_allclose(part["gap"], np.maximum(compute[above] - compute[below].max(), 0.02))
        np.testing.assert_allclose(part["observed"], table["loss"].to_numpy()[above])
        assert (part["rows"] == below.sum()).all()


def test_losses_above_a_cut_do_not_tell():
    table = points()
    compute = 6 * table["n"] * table["tokens"]
    top = compute > np.quantile(compute, 0.93)
    changed = table.assign(loss=table["loss"].where(~top, 1.5 * table["loss"]))
    before, after = (backtest("hoffmann", t, n_boot=20).predictions for t in (table, changed))
    for column in ("predicted", "low", "high"):
        np.testing.assert_array_equal(before[column], after[column])
    assert (before["observed"] != after["observed"]).any()


def test_a_law_that_is_right_keeps_its_promise():
    result = backtest("hoffmann", points(), n_boot=50)
    at = result.summary.set_index(["method", "distance"])
    assert at.loc[("kriging", ALL), "coverage"] > 0.85
    assert result.kappa < 1.2


def test_kappa_tells_a_law_that_fails():
    """A floor that the smaller runs do not show."""
    table = points(0.001)
    broken = table.assign(loss=table["loss"].clip(lower=2.6 + 0.001 * np.sin(np.arange(len(table)))))
    assert backtest("hoffmann", broken, n_boot=20).kappa > 1.5 * backtest("hoffmann", table, n_boot=20).kappa


def test_kappa_is_the_factor_that_would_have_covered():
    result = backtest("hoffmann", points(0.01), n_boot=20)
    rows = result.predictions.query("method == 'kriging'")
    scaled = rows.assign(covered=rows["error"] <= result.kappa * rows["width"] / 2 * (1 + 1e-12))
    less = rows.assign(covered=rows["error"] < result.kappa * rows["width"] / 2 * (1 - 1e-12))
    assert cells(scaled)["covered"].mean() >= 0.9
    assert cells(less)["covered"].mean() < 0.9


def test_a_fit_backtests_itself_with_its_own_options():
    fit = fit_law("hoffmann", points(), loss="ls", fixed={"E": 1.8}, n_boot=0, seed=2)
    ours = backtest_fit(fit, cuts=3, n_boot=20, seed=fit.seed)
    direct = backtest("hoffmann", points(), loss="ls", fixed={"E": 1.8}, cuts=3, n_boot=20, seed=2)
    pd.testing.assert_frame_equal(ours.predictions, direct.predictions, check_exact=True)


def test_means_of_seeds_are_cut_with_all_their_points():
    table = pd.concat([points(seed=seed).assign(run=f"{seed}") for seed in range(3)], ignore_index=True)
    table["run"] = [f"{run}-{row}" for row, run in enumerate(table["run"])]
    rows = backtest("hoffmann", table, replicates="mean", n_boot=20).predictions
    mean = np.exp(np.log(table["loss"]).groupby([table["n"], table["tokens"]]).mean())
    assert rows["row"].max() < len(mean)
    np.testing.assert_allclose(rows["observed"], mean.to_numpy()[rows["row"]])
    assert rows.query("method == 'kriging'")["covered"].mean() > 0.8


@pytest.mark.slow
def test_laws_without_compute_are_cut_by_what_they_have():
    by_loss = backtest("bhagia", noisy(LAWS["bhagia"], PLANTED["bhagia"], 0.003), n_boot=20)
    assert by_loss.by == "loss"
    for _, part in by_loss.predictions.groupby("cut"):
        assert part["rows"].iloc[0] + part["row"].nunique() <= 50
    table = noisy(LAWS["bhagia"], PLANTED["bhagia"], 0.003)
    losses = table["loss"].to_numpy()
    cut = by_loss.predictions["cut"].max()
    assert (losses[by_loss.predictions.query("cut == @cut")["row"]] < 10**-cut).all()  # the better models are predicted
    by_step = backtest("kaplan_d", noisy(LAWS["kaplan_d"], PLANTED["kaplan_d"], 0.003), n_boot=20)
    assert by_step.by == "tokens"
    assert backtest("hoffmann", points(), by="n", n_boot=20).by == "n"


def test_the_result_is_a_document():
    result = backtest("hoffmann", points(), n_boot=20)
    document = json.loads(json.dumps(result.to_dict()))
    assert document["law"] == "hoffmann"
    assert document["by"] == "compute"
    assert document["kappa"] == result.kappa
    assert {row["method"] for row in document["summary"]} == set(METHODS)
    assert set(document["summary"][0]) == {"method", "distance", "coverage", "width", "score", "error", "cells"}


def test_back_tests_are_the_same_to_the_bit():
    first, second = (backtest("hoffmann", points(), cuts=3, n_boot=30).predictions for _ in range(2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


@pytest.mark.parametrize(
    ("table", "options", "error", "match"),
    [
        (points().head(15), {}, TableError, "no cut by compute leaves 14 rows of 6 runs below it"),
        (points().assign(run=["a", "b"] * 21), {}, TableError, "no cut by compute leaves 14 rows of 6 runs"),
        (points(), {"cuts": 0}, ConfigError, "cuts: found 0; accepted: 1 or more"),
        (points(), {"level": 90.0}, ConfigError, "level: found 90; accepted: above 0 and below 1"),
        (points(), {"by": "flops"}, ConfigError, "by: found 'flops'; accepted: n, tokens"),
    ],
)
def test_mistakes_are_told(table, options, error, match):
    with pytest.raises(error, match=match):
        backtest("hoffmann", table, **options)


# --- public tables ----------------------------------------------------------------------------

QUICK = ("epoch", "gemstones cooled", "porian rw base long kaplan standard val", "datablations", "steplaw", "llama3")


@needs_shared
@pytest.mark.slow
def test_intervals_hold_on_public_tables():
    """Six of the tables of scripts/backtest_public.py, which tries them all."""
    tables = design_tables() | fresh_tables()
    parts = [backtest("hoffmann", tables[name], n_boot=50).predictions.assign(table=name) for name in QUICK]
    at = summarised(cells(pd.concat(parts), "table")).set_index(["method", "distance"])
    kriging, plain = at.loc[("kriging", ALL)], at.loc[("gauss-newton", ALL)]
    assert 0.85 <= kriging["coverage"] <= 0.98
    assert kriging["score"] < 0.6 * plain["score"]
    assert kriging["error"] < 0.8 * plain["error"]
    assert plain["coverage"] < 0.75
