import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from testbed.errors import ConfigError, TableError
from testbed.fit import Rows, fit_law
from testbed.fit.coordinates import Coordinates
from testbed.fit.solver import minimise
from testbed.laws import LAWS, find_law, plain_formula

from .conftest import TRUTH, planted_points
from .public_tables import fitted_rows, needs_shared, optima


def clean(points):
    grid = points[points["role"] == "grid"]
    return pd.DataFrame(
        {"n": grid["n_params_non_embedding"], "tokens": grid["tokens"], "loss": grid["loss"], "run": grid["run"]}
    ).reset_index(drop=True)


# --- laws, all of them ------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAWS)
def test_planted_parameters_are_recovered(name):
    fit = fit_law(name, clean(planted_points(name)), delta=1e-3, n_boot=20)
    assert fit.converged
    for parameter, value in TRUTH[name].items():
        assert fit.params[parameter] == pytest.approx(value, rel=1e-6), parameter


@pytest.mark.parametrize("name", LAWS)
def test_gradients_are_those_of_the_loss(name):
    law = LAWS[name]
    rng = np.random.default_rng(0)
    columns = {"n": 10 ** rng.uniform(3, 9, 30), "tokens": 10 ** rng.uniform(5, 11, 30)}
    coordinates = Coordinates.of(law, columns, np.log(rng.uniform(2, 4, 30)))
    phi = coordinates.starts(20, rng)
    by_hand = coordinates.slopes(phi, columns)
    by_steps = np.stack([coordinates._complex_slope(phi, k, columns) for k in range(phi.shape[1])], axis=1)
    np.testing.assert_allclose(by_hand, by_steps, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", LAWS)
def test_losses_are_finite_at_the_ends_of_the_range(name):
    law = LAWS[name]
    theta = {key: np.array([[value]]) for key, value in TRUTH[name].items()}
    columns = {"n": np.array([1.0, 1e15]), "tokens": np.array([1.0, 1e18])}
    assert np.isfinite(law.loss(theta, columns)).all()


@pytest.mark.parametrize("name", LAWS)
def test_laws_say_where_they_come_from(name):
    assert LAWS[name].source.startswith("arXiv:")
    assert plain_formula(LAWS[name]).startswith("L = E + ")


def test_formulas_are_readable_on_a_terminal():
    assert plain_formula(LAWS["hoffmann"]) == "L = E + A/N^alpha + B/D^beta"
    assert plain_formula(LAWS["kaplan"]) == "L = E + (A/N^a + B/D)^b"


def test_coordinates_and_parameters_are_each_others_reverse():
    points = clean(planted_points("kaplan"))
    columns = {"n": points["n"].to_numpy(), "tokens": points["tokens"].to_numpy()}
    for name, truth in TRUTH.items():
        coordinates = Coordinates.of(LAWS[name], columns, np.log(points["loss"].to_numpy()))
        back = coordinates.parameters(coordinates.coordinates(truth)[None])
        assert {key: float(value[0, 0]) for key, value in back.items()} == pytest.approx(truth)


# --- the solver against an outside authority --------------------------------------------------


def oracle(law, points, delta, start):
    """scipy's robust least squares has this very objective: its cost is the sum of Huber losses."""
    columns = {"n": points["n"].to_numpy(), "tokens": points["tokens"].to_numpy()}
    y = np.log(points["loss"].to_numpy())
    coordinates = Coordinates.of(law, columns, y)
    return least_squares(
        lambda phi: y - coordinates.log_loss(phi[None], columns)[0],
        coordinates.coordinates(start),
        jac=lambda phi: -coordinates.slopes(phi[None], columns)[0].T,
        loss="huber",
        f_scale=delta,
        x_scale="jac",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    ).cost


@given(seed=st.integers(0, 1000), delta=st.sampled_from([1e-3, 1e-2, 1e-1]), name=st.sampled_from(sorted(LAWS)))
@settings(deadline=None, max_examples=12)
def test_no_optimum_is_better_than_ours(seed, delta, name):
    points = clean(planted_points(name, noise=0.01, seed=seed))
    fit = fit_law(name, points, delta, n_boot=20)
    assert fit.objective <= oracle(fit.law, points, delta, fit.params) * (1 + 1e-9)
    assert fit.objective <= oracle(fit.law, points, delta, TRUTH[name]) * (1 + 1e-9)


def test_every_resample_is_at_its_own_optimum():
    points = clean(planted_points("hoffmann", noise=0.01))
    fit = fit_law("hoffmann", points, 1e-2, "mean", n_boot=30)
    y, weights = fit.rows.draw(30, 0)
    coordinates = Coordinates.of(fit.law, fit.rows.columns, fit.rows.y)
    ours = np.array([coordinates.coordinates(dict(zip(fit.params, row, strict=True))) for row in fit.resamples])
    rng = np.random.default_rng(1)
    for _ in range(5):
        starts = ours + rng.normal(scale=0.05, size=ours.shape)
        found = minimise(coordinates, fit.rows.columns, y, weights, starts, 1e-2)
        again = minimise(coordinates, fit.rows.columns, y, weights, ours, 1e-2, steps=0)
        assert (again.objective <= found.objective * (1 + 1e-6) + 1e-12).all()


@needs_shared
@pytest.mark.parametrize("entry", optima()[::4], ids=lambda entry: f"{entry['data']}, delta {entry['delta']}")
def test_reference_optima_on_public_tables(entry):
    delta = entry["delta"] if isinstance(entry["delta"], float) else 1e3
    fit = fit_law("hoffmann", fitted_rows(entry["data"]), delta, n_boot=2)
    assert fit.converged
    assert fit.objective == pytest.approx(float(entry["obj"]), rel=1e-11)


@needs_shared
def test_the_optimum_on_epochs_240_points():
    fit = fit_law("hoffmann", fitted_rows("chinchilla_epoch/runs.csv used_in_published_fit==1"), delta=1e-3, n_boot=20)
    assert fit.objective == pytest.approx(0.001018274017703884, rel=1e-12)
    expected = {"A": 477.826, "B": 2143.42, "E": 1.817218, "alpha": 0.347310, "beta": 0.367172}
    assert fit.params == pytest.approx(expected, rel=2e-6)


# --- resampling -------------------------------------------------------------------------------


def test_seed_means_and_separate_points():
    points = clean(planted_points("hoffmann", noise=0.01))
    mean, separate = Rows.of(points, "mean"), Rows.of(points, "separate")
    assert (len(mean.table), len(separate.table)) == (20, 60)
    assert mean.n_runs == separate.n_runs == 15
    cell = points[(points["n"] == 1e4) & (points["tokens"] == 1e6)]
    row = mean.table[(mean.table["n"] == 1e4) & (mean.table["tokens"] == 1e6)]
    assert float(row["y"].iloc[0]) == pytest.approx(np.log(cell["loss"]).mean())


def test_a_run_is_drawn_whole_and_among_its_replicates():
    points = clean(planted_points("hoffmann", noise=0.01))
    rows = Rows.of(points, "separate")
    _, weights = rows.draw(50, 0)
    for run in points["run"].unique():
        chosen = weights[:, (points["run"] == run).to_numpy()]
        assert (chosen == chosen[:, :1]).all()
    for n in points["n"].unique():
        assert (weights[:, (points["n"] == n).to_numpy()].sum(axis=1) == 3 * 4).all()
    assert rows.seeds == 3
    assert rows.inflation == pytest.approx(np.sqrt(3 / 2))


def test_resampled_means_are_means_of_whole_trunks():
    points = clean(planted_points("hoffmann", noise=0.01, seeds=2))
    rows = Rows.of(points, "mean")
    y, weights = rows.draw(200, 0)
    assert (weights == 1).all()
    runs = (
        points[points["n"] == 1e4]
        .assign(y=lambda t: np.log(t["loss"]))
        .pivot(index="run", columns="tokens", values="y")
    )
    a, b = runs.to_numpy()
    possible = np.stack([a, b, (a + b) / 2])
    drawn = y[:, (rows.table["n"] == 1e4).to_numpy()]
    nearest = np.abs(drawn[:, None] - possible[None]).max(axis=2).min(axis=1)
    assert nearest.max() < 1e-12


def test_without_replicates_all_runs_are_drawn_from():
    points = clean(planted_points("hoffmann", noise=0.01, seeds=1))
    rows = Rows.of(points, "separate")
    _, weights = rows.draw(200, 0)
    assert rows.inflation == 1.0
    assert (weights.sum(axis=1) == 20).all()
    assert (weights[:, (points["n"] == 1e4).to_numpy()].max(axis=1) != 1).any()
    assert np.isnan(rows.seed_sd())


def test_the_spread_of_resamples_is_that_of_new_studies():
    """With S seeds the plain bootstrap's variance is (S - 1) / S of the truth; the inflated one is right."""
    predictions, spreads = [], []
    for seed in range(60):
        fit = fit_law("hoffmann", clean(planted_points("hoffmann", noise=0.01, seed=seed)), 1.0, "mean", n_boot=60)
        predictions.append(np.log(fit.predict(n=1e6, tokens=3e7)[0]))
        spreads.append(np.log(fit.predict_resamples(n=1e6, tokens=3e7)[:, 0]).var(ddof=1))
    assert np.sqrt(np.mean(spreads)) == pytest.approx(np.std(predictions, ddof=1), rel=0.35)


def test_the_pooled_seed_noise():
    rows = Rows.of(clean(planted_points("hoffmann", noise=0.01, seeds=40)), "mean")
    assert rows.seed_sd() == pytest.approx(0.01 * np.hypot(0.9, 0.4), rel=0.15)


# --- the result -------------------------------------------------------------------------------


def test_a_fit_is_the_same_to_the_bit():
    points = clean(planted_points("hoffmann", noise=0.01))
    first, second = (fit_law("hoffmann", points, n_boot=50, seed=3) for _ in range(2))
    assert first.params == second.params
    assert np.array_equal(first.resamples, second.resamples)
    assert not np.array_equal(first.resamples, fit_law("hoffmann", points, n_boot=50, seed=4).resamples)


def test_the_order_of_the_rows_does_not_count():
    points = clean(planted_points("hoffmann", noise=0.01))
    shuffled = points.sample(frac=1, random_state=0).reset_index(drop=True)
    a, b = (fit_law("hoffmann", p, 1e-2, "mean", n_boot=20) for p in (points, shuffled))
    assert a.params == pytest.approx(b.params, rel=1e-7)


def test_a_term_that_vanishes_is_said_to_be_zero():
    points = clean(planted_points("hoffmann"))
    theta = {k: np.array([[v]]) for k, v in (TRUTH["hoffmann"] | {"E": 0.0}).items()}
    columns = {"n": points["n"].to_numpy(), "tokens": points["tokens"].to_numpy()}
    points["loss"] = LAWS["hoffmann"].loss(theta, columns)[0] * np.exp(0.01 * np.sin(np.arange(len(points))))
    points.loc[points["n"] > 1e5, "loss"] *= 0.97
    fit = fit_law("hoffmann", points, n_boot=50)
    assert fit.at_zero == ("E",)
    assert fit.interval("E")[0] == 0.0


def test_intervals_hold_their_estimate_and_their_shape():
    fit = fit_law("kaplan", clean(planted_points("kaplan", noise=0.005)), 1e-2, "mean", n_boot=200)
    bounds = fit.conf_int(0.9)
    assert list(bounds.index) == list(fit.params)
    assert (bounds["low"] <= bounds["high"]).all()
    narrow = fit.conf_int(0.5)
    assert (narrow["high"] - narrow["low"] <= bounds["high"] - bounds["low"]).all()
    assert json.loads(json.dumps(fit.to_dict()))["params"] == fit.params


@pytest.mark.parametrize(
    ("column", "match"), [("n", "n is 10000 in every row"), ("tokens", "tokens is 1e+06 in every row")]
)
def test_a_column_that_does_not_vary_is_refused(column, match):
    points = clean(planted_points("hoffmann"))
    points[column] = {"n": 1e4, "tokens": 1e6}[column]
    with pytest.raises(TableError) as caught:
        fit_law("hoffmann", points)
    assert match in str(caught.value)


def test_more_parameters_than_rows_are_refused():
    with pytest.raises(TableError, match="5 rows for the 5 parameters of hoffmann"):
        fit_law("hoffmann", clean(planted_points("hoffmann")).head(5))


def test_an_unknown_law_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown law 'hofmann'; accepted: hoffmann, kaplan"):
        find_law("hofmann")
    with pytest.raises(ConfigError, match="cannot be imported"):
        find_law("no.module:Law")
    assert find_law("testbed.laws.kaplan:Kaplan").name == "kaplan"


def test_the_analysis_wing_never_imports_torch():
    code = (
        "import sys, testbed.fit, testbed.validate, testbed.report.page\n"
        "sys.exit(bool({'torch', 'transformers', 'testbed.train', 'testbed.store'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
