import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.fit.problem import Problem
from testbed.analysis.fit.resampling import Rows
from testbed.analysis.fit.solver import minimise
from testbed.analysis.laws import LAWS
from testbed.errors import ConfigError, TableError
from testbed.points import points_digest
from tests.helpers.oracle import least_cost
from tests.helpers.planted import PLANTED, noisy
from tests.helpers.planted_sweep import TRUTH, clean, planted_points
from tests.helpers.public_tables import fitted_rows, needs_shared, optima


def rows_of(points, replicates="separate"):
    return Rows.of(points, LAWS["hoffmann"], "log", replicates)


# --- the solver against an outside authority --------------------------------------------------


@given(
    seed=st.integers(0, 1000),
    delta=st.sampled_from([1e-3, 1e-2, 1e-1]),
    name=st.sampled_from(["hoffmann", "hoffmann_tied", "kaplan", "kaplan_nd", "coupled", "henighan_n"]),
)
@settings(deadline=None, max_examples=12)
@pytest.mark.slow
def test_no_optimum_is_better_than_ours(seed, delta, name):
    fit = fit_law(name, noisy(LAWS[name], PLANTED[name], 0.01, seed), delta=delta, n_boot=0)
    truth = fit.problem.coordinates.coordinates(PLANTED[name].params)
    for start in (fit.phi, truth):
        assert fit.objective <= least_cost(fit.problem, fit.rows.y, start) * (1 + 1e-9)


def test_every_resample_is_at_its_own_optimum():
    """Resampled rows are repeated for the oracle, which knows no weights."""
    fit = fit_law("hoffmann", noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.01), delta=1e-3, n_boot=60)
    times = np.concatenate(list(fit.rows.times(60, 0)))
    y, weights = fit.rows.resampled(times)
    assert fit.resamples_converged.all()
    for k in range(0, 60, 3):
        theta = dict(zip(fit.theta, fit.resamples[k], strict=True))
        phi = fit.problem.coordinates.coordinates(theta)
        rows = np.repeat(np.arange(fit.nobs), weights[k].astype(int))
        columns = {name: values[rows] for name, values in fit.problem.columns.items()}
        repeated = Problem(fit.problem.coordinates, columns, "huber", fit.delta)
        ours = repeated.kernel.evaluate(phi[None], y[rows], np.ones((1, len(rows))), np.array([fit.delta]))[0][0]
        assert ours <= least_cost(repeated, y[rows], phi) * (1 + 1e-9) + 1e-15


@needs_shared
@pytest.mark.parametrize("entry", optima(), ids=lambda entry: f"{entry['data']}, delta {entry['delta']}")
def test_reference_optima_on_public_tables(entry):
    huber = isinstance(entry["delta"], float)
    fit = fit_law(
        "hoffmann",
        fitted_rows(entry["data"]),
        loss="huber" if huber else "ls",
        delta=entry["delta"] if huber else 1e-3,
        n_boot=0,
    )
    assert fit.converged
    assert fit.objective == pytest.approx(float(entry["obj"]), rel=1e-11)


EPOCH = "chinchilla_epoch/runs.csv used_in_published_fit==1"


@needs_shared
def test_the_optimum_on_epochs_240_points():
    fit = fit_law("hoffmann", fitted_rows(EPOCH), delta=1e-3, n_boot=0)
    assert fit.objective == pytest.approx(0.001018274017703884, rel=1e-12)
    expected = {"A": 477.825874, "B": 2143.417325, "E": 1.8172180989, "alpha": 0.3473104996, "beta": 0.3671724317}
    assert fit.theta == pytest.approx(expected, rel=1e-7)


@needs_shared
def test_the_published_estimate_is_the_least_absolute_deviation_and_not_the_huber_optimum():
    """The published A = 482.01, B = 2085.43 is where a Huber likelihood with a free scale ends: nearly the LAD vertex."""
    table = fitted_rows(EPOCH)
    vertex = {"A": 482.0060548, "B": 2085.436245, "E": 1.816864133, "alpha": 0.34781307, "beta": 0.36585416}
    absolute = fit_law("hoffmann", table, loss="lad", n_boot=0)
    assert absolute.theta == pytest.approx(vertex, rel=1e-6)
    assert absolute.objective == pytest.approx(1.1294946536, rel=1e-8)
    assert np.sort(np.abs(absolute.resid))[4] < 1e-12, "it meets five points exactly"
    likelihood = fit_law("hoffmann", table, loss="huber-likelihood", n_boot=0)
    assert likelihood.objective == pytest.approx(-879.7731, abs=1e-3)
    assert likelihood.theta == pytest.approx(vertex, rel=2e-6)
    huber = fit_law("hoffmann", table, n_boot=0)
    assert abs(huber.theta["B"] / 2085.43 - 1) > 0.02


@needs_shared
def test_published_standard_errors_by_the_published_resamples():
    """Epoch's own 4,000 resamples: numpy's legacy generator, seed 42, rows drawn with replacement."""
    table = fitted_rows(EPOCH)
    fit = fit_law("hoffmann", table, n_boot=0)
    rng = np.random.RandomState(42)
    weights = np.stack([np.bincount(rng.choice(240, 240), minlength=240) for _ in range(4000)]).astype(float)
    found = fit.problem.solve(fit.rows.y, weights, np.repeat(fit.phi[None], 4000, axis=0))
    assert found.converged.all()
    spread = fit.problem.coordinates.natural(found.phi).std(axis=0)
    published = {"A": 124.52, "B": 1293.28, "E": 0.02566, "alpha": 0.01540, "beta": 0.02060}
    assert dict(zip(fit.theta, spread, strict=True)) == pytest.approx(published, rel=5e-3)


@pytest.mark.parametrize("loss", ["huber", "lad", "ls", "huber-likelihood"])
@pytest.mark.parametrize("name", ["hoffmann", "kaplan"])
def test_noiseless_points_by_every_objective(name, loss):
    fit = fit_law(name, noisy(LAWS[name], PLANTED[name]), loss=loss, n_boot=0)
    assert fit.theta == pytest.approx(PLANTED[name].params, rel=1e-5)


def test_parameters_that_are_held():
    points = noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.003)
    free = fit_law("hoffmann", points, n_boot=0)
    for name, value in PLANTED["hoffmann"].params.items():
        held = fit_law("hoffmann", points, fixed={name: 1.02 * value}, n_boot=20)
        assert held.theta[name] == 1.02 * value
        assert held.objective > free.objective
        assert (held.resamples[:, list(held.theta).index(name)] == 1.02 * value).all()
        at_best = fit_law("hoffmann", points, fixed={name: free.theta[name]}, n_boot=0)
        assert at_best.objective == pytest.approx(free.objective, rel=1e-9)
    without = fit_law("hoffmann", points, fixed={"E": 0.0}, n_boot=0)
    assert without.theta["E"] == 0.0
    assert without.at_zero == ()


# --- resampling -------------------------------------------------------------------------------


def test_seed_means_and_separate_points():
    points = clean(planted_points("hoffmann", noise=0.01))
    mean, separate = rows_of(points, "mean"), rows_of(points)
    assert (len(mean.y), len(separate.y)) == (20, 60)
    assert mean.n_runs == separate.n_runs == 15
    cell = points[(points["n"] == 1e4) & (points["tokens"] == 1e6)]
    row = (mean.columns["n"] == 1e4) & (mean.columns["tokens"] == 1e6)
    assert float(mean.y[row][0]) == pytest.approx(np.log(cell["loss"]).mean())


def drawn(rows, count):
    return rows.resampled(np.concatenate(list(rows.times(count, 0))))


def test_a_run_is_drawn_whole_and_among_its_replicates():
    points = clean(planted_points("hoffmann", noise=0.01))
    rows = rows_of(points)
    _, weights = drawn(rows, 50)
    for run in points["run"].unique():
        chosen = weights[:, (points["run"] == run).to_numpy()]
        assert (chosen == chosen[:, :1]).all()
    for n in points["n"].unique():
        assert (weights[:, (points["n"] == n).to_numpy()].sum(axis=1) == 3 * 4).all()
    assert rows.seeds == 3
    assert rows.inflation == pytest.approx(np.sqrt(3 / 2))


def test_resampled_means_are_means_of_whole_trunks():
    points = clean(planted_points("hoffmann", noise=0.01, seeds=2))
    rows = rows_of(points, "mean")
    y, weights = drawn(rows, 200)
    assert (weights == 1).all()
    runs = (
        points[points["n"] == 1e4]
        .assign(y=lambda t: np.log(t["loss"]))
        .pivot(index="run", columns="tokens", values="y")
    )
    a, b = runs.to_numpy()
    possible = np.stack([a, b, (a + b) / 2])
    drawn_at = y[:, rows.columns["n"] == 1e4]
    nearest = np.abs(drawn_at[:, None] - possible[None]).max(axis=2).min(axis=1)
    assert nearest.max() < 1e-12


def test_without_replicates_all_runs_are_drawn_from():
    points = clean(planted_points("hoffmann", noise=0.01, seeds=1))
    rows = rows_of(points)
    _, weights = drawn(rows, 200)
    assert rows.inflation == 1.0
    assert (weights.sum(axis=1) == 20).all()
    assert (weights[:, (points["n"] == 1e4).to_numpy()].max(axis=1) != 1).any()
    assert np.isnan(rows.noise_sd())


@pytest.mark.slow
def test_the_spread_of_resamples_is_that_of_new_studies():
    """With S seeds the plain bootstrap's variance is (S - 1) / S of the truth; the inflated one is right."""
    predictions, spreads = [], []
    for seed in range(60):
        points = clean(planted_points("hoffmann", noise=0.01, seed=seed))
        fit = fit_law("hoffmann", points, delta=1.0, replicates="mean", n_boot=60)
        predictions.append(np.log(fit.predict(n=1e6, tokens=3e7)[0]))
        spreads.append(np.log(fit.predict_resamples(n=1e6, tokens=3e7)[:, 0]).var(ddof=1))
    assert np.sqrt(np.mean(spreads)) == pytest.approx(np.std(predictions, ddof=1), rel=0.35)


@pytest.mark.parametrize("replicates", ["mean", "separate"])
def test_the_pooled_seed_noise(replicates):
    rows = rows_of(clean(planted_points("hoffmann", noise=0.01, seeds=40)), replicates)
    assert rows.noise_sd() == pytest.approx(0.01 * np.hypot(0.9, 0.4), rel=0.15)


def test_very_long_tables_are_resampled_by_one_step(monkeypatch):
    points = noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.01)
    points = pd.concat([points.assign(run=f"{k}-" + points["run"], loss=points["loss"] * np.exp(
        0.01 * np.random.default_rng(k).normal(size=len(points)))) for k in range(60)], ignore_index=True)  # fmt: skip
    exact = fit_law("hoffmann", points, delta=1e-2, n_boot=300)
    monkeypatch.setattr("testbed.analysis.fit.fitting._EXACT", 0)
    quick = fit_law("hoffmann", points, delta=1e-2, n_boot=300)
    assert quick.theta == exact.theta
    assert quick.bse.to_dict() == pytest.approx(exact.bse.to_dict(), rel=0.1)


# --- the result -------------------------------------------------------------------------------


def test_a_fit_is_the_same_to_the_bit():
    points = clean(planted_points("hoffmann", noise=0.01))
    first, second = (fit_law("hoffmann", points, n_boot=50, seed=3) for _ in range(2))
    assert first.theta == second.theta
    assert np.array_equal(first.resamples, second.resamples)
    assert not np.array_equal(first.resamples, fit_law("hoffmann", points, n_boot=50, seed=4).resamples)


def test_the_order_of_the_rows_does_not_count():
    points = clean(planted_points("hoffmann", noise=0.01))
    shuffled = points.sample(frac=1, random_state=0).reset_index(drop=True)
    a, b = (fit_law("hoffmann", p, delta=1e-2, replicates="mean", n_boot=20) for p in (points, shuffled))
    assert a.theta == pytest.approx(b.theta, rel=1e-7)


def test_a_term_that_vanishes_is_said_to_be_zero():
    law, columns = LAWS["hoffmann"], PLANTED["hoffmann"].columns
    theta = {k: np.array([[v]]) for k, v in (TRUTH["hoffmann"] | {"E": 0.0}).items()}
    loss = law.value(theta, columns)[0] * np.exp(0.01 * np.sin(np.arange(len(columns["n"]))))
    points = pd.DataFrame(columns).assign(loss=np.where(columns["n"] > 1e8, 0.97, 1.0) * loss)
    fit = fit_law("hoffmann", points, n_boot=50)
    assert fit.at_zero == ("E",)
    assert fit.interval("E")[0] == 0.0


def test_columns_may_be_arrays_and_any_usual_name():
    points = noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.003)
    renamed = {"params": points["n"].to_numpy(), "D": points["tokens"].tolist(), "val_loss": points["loss"]}
    fit = fit_law("hoffmann", renamed, n_boot=0)
    assert fit.columns == {"n": "params", "tokens": "D", "loss": "val_loss"}
    assert fit.theta == fit_law("hoffmann", points, n_boot=0).theta


def test_figures_of_merit():
    points = noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.01)
    fit = fit_law("hoffmann", points, loss="ls", n_boot=0)
    assert fit.nobs == len(points) == fit.n_runs
    assert fit.df_resid == len(points) - 5
    np.testing.assert_allclose(fit.fittedvalues * np.exp(fit.resid), points["loss"])
    np.testing.assert_allclose(fit.predict(points), fit.fittedvalues, rtol=1e-12)
    assert fit.objective == pytest.approx(0.5 * (fit.resid**2).sum(), rel=1e-12)
    sd = np.sqrt(np.mean(fit.resid**2))
    assert fit.llf == pytest.approx(np.sum(-0.5 * (fit.resid / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))))
    assert fit.aicc > fit.aic > 0 - 2 * fit.llf
    assert 0.99 < fit.rsquared < 1


def test_a_fit_goes_through_json_to_the_bit():
    fit = fit_law("kaplan", noisy(LAWS["kaplan"], PLANTED["kaplan"], 0.003), n_boot=40, fixed={"b": 0.3})
    document = json.loads(json.dumps(fit.to_dict(), allow_nan=False))
    back = Fit.from_dict(document)
    assert back.theta == fit.theta
    assert np.array_equal(back.resamples, fit.resamples)
    assert np.array_equal(back.resid, fit.resid)
    assert back.conf_int().equals(fit.conf_int())
    assert back.to_dict() == fit.to_dict()


@pytest.mark.parametrize(("law", "column"), [("step_law_lr", "peak_lr"), ("tissue", "lr_at_step")])
def test_a_fit_that_was_saved_when_its_column_was_called_lr_is_read(law, column):
    fit = fit_law(law, noisy(LAWS[law], PLANTED[law], 0.003), n_boot=0)
    old = json.loads(json.dumps(fit.to_dict()).replace(f'"{column}"', '"lr"'))
    old["data_digest"] = points_digest(fit.points.rename(columns={column: "lr"}))
    back = Fit.from_dict(old)
    assert back.theta == fit.theta and np.array_equal(back.resid, fit.resid)
    assert back.columns[column] == "lr" and column in back.points


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": 99}, "found format 99, .* up to format 1: update testbed"),
        ({"format": "1"}, "no fit"),
        ({"law": "hofmann"}, "unknown law"),
        ({"params": None}, "incomplete or changed"),
        ({"data_digest": "0"}, "the points are not those that were fitted"),
        ({"resamples": [[1.0]]}, "incomplete or changed"),
    ],
)
def test_documents_that_are_no_fit(change, match):
    document = fit_law("hoffmann", noisy(LAWS["hoffmann"], PLANTED["hoffmann"]), n_boot=3).to_dict() | change
    with pytest.raises((TableError, ConfigError), match=match):
        Fit.from_dict(document)


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


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"loss": "mse"}, "loss: found 'mse'; accepted: huber, lad, ls"),
        ({"delta": 0.0}, "delta: found 0.0; accepted: a number above 0"),
        ({"fixed": {"gamma": 1.0}}, "hoffmann has no parameter gamma; accepted: A, B, E, alpha, beta"),
        ({"fixed": dict.fromkeys(TRUTH["hoffmann"], 1.0)}, "nothing to fit"),
        ({"n_boot": -1}, "n_boot: found -1"),
    ],
)
def test_arguments_that_make_no_sense(arguments, match):
    with pytest.raises(ConfigError, match=match):
        fit_law("hoffmann", clean(planted_points("hoffmann")), **arguments)


def test_a_search_says_how_it_went():
    fit = fit_law("hoffmann", clean(planted_points("hoffmann", noise=0.01)), n_boot=0)
    assert 1 <= fit.search.reached <= fit.search.starts
    assert fit.search.optima >= 1
    again = minimise(fit.problem.kernel, fit.rows.y, np.ones((1, fit.nobs)), fit.phi[None], fit.delta)
    assert again.objective[0] == pytest.approx(fit.objective, rel=1e-12)


@pytest.mark.slow
def test_the_analysis_wing_never_imports_torch():
    code = (
        "import sys, testbed.analysis.fit, testbed.analysis.forecast, testbed.analysis.report.study.study_page\n"
        "sys.exit(bool({'torch', 'transformers', 'testbed.training'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_points_of_a_single_run_are_drawn_one_by_one():
    points = noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.01)
    alone = fit_law("hoffmann", points.assign(run="only"), n_boot=50)
    assert alone.n_runs == 1
    assert np.array_equal(alone.resamples, fit_law("hoffmann", points, n_boot=50).resamples)


def test_ways_that_do_not_go_together():
    curves = noisy(LAWS["tissue"], PLANTED["tissue"])
    with pytest.raises(ConfigError, match="tissue is a law of single runs' curves"):
        fit_law("tissue", curves, columns={c: c for c in LAWS["tissue"].columns}, replicates="mean")
    with pytest.raises(ConfigError, match="found space 'cubic'"):
        fit_law("hoffmann", clean(planted_points("hoffmann")), space="cubic")


def test_runs_are_predicted_by_the_names_of_their_table():
    points = noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.003)
    foreign = points.rename(columns={"n": "size of the model", "tokens": "D", "loss": "val_loss"})
    fit = fit_law("hoffmann", foreign, columns={"n": "size of the model"}, n_boot=0)
    np.testing.assert_array_equal(fit.predict(foreign), fit.predict(points))
    np.testing.assert_array_equal(fit.get_prediction(foreign.head(3)).mean, fit.get_prediction(points.head(3)).mean)
    by_ratio = pd.DataFrame({"params": [1e9], "tokens_per_param": [20.0]})
    np.testing.assert_array_equal(fit.predict(by_ratio), fit.predict(n=1e9, tokens=2e10))
    with pytest.raises(TableError, match="the targets: no column for tokens"):
        fit.predict({"n": 1e9})


@pytest.mark.parametrize("name, noise, seed", [("kaplan", 0.2, 1), ("kaplan_nd", 0.05, 0)])
@pytest.mark.slow
def test_least_absolute_deviations_of_a_coupled_law_survive_a_step_to_where_it_has_no_value(name, noise, seed):
    points = noisy(LAWS[name], PLANTED[name], noise, seed)
    by_lad, by_huber = (fit_law(name, points, loss=loss, n_boot=25, seed=seed) for loss in ("lad", "huber"))
    assert np.isfinite(by_lad.resamples).all()
    assert by_lad.objective == pytest.approx(np.abs(by_lad.resid).sum(), rel=1e-12)
    assert by_lad.objective <= np.abs(by_huber.resid).sum() * (1 + 1e-12)
