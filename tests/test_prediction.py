import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from testbed.analysis.fit import fit_law
from testbed.analysis.fit.prediction.discrepancy import Covariance, _restricted, distances, matern
from testbed.analysis.fit.prediction.domain import Domain
from testbed.analysis.fit.prediction.kriging import Kriging, krige, spread_rows
from testbed.analysis.laws import LAWS
from testbed.errors import ConfigError, TableError
from tests.helpers.planted import PLANTED, noisy

HOFFMANN = LAWS["hoffmann"]
TRUTH = {name: np.array([[value]]) for name, value in PLANTED["hoffmann"].params.items()}
SOUGHT_LONG = ("bnsl2", "farseer", "multi_power")  # laws whose global search takes seconds
AHEAD = pd.DataFrame({"n": [2e9, 1e10], "tokens": [4e10, 3e11]})


def loss(table):
    return HOFFMANN.value(TRUTH, {name: table[name].to_numpy() for name in ("n", "tokens")})[0]


def points(noise=0.003, seed=0):
    return noisy(HOFFMANN, PLANTED["hoffmann"], noise, seed)


def designs(count, rng, n=(6, 9), tokens=(8, 11)):
    return pd.DataFrame({"n": 10 ** rng.uniform(*n, count), "tokens": 10 ** rng.uniform(*tokens, count)})


# --- the intervals' promise -------------------------------------------------------------------


@pytest.mark.slow
def test_intervals_hold_when_the_law_is_off_by_a_smooth_discrepancy():
    """Eighty studies of a law that is 1 % off, smoothly; targets among the fitted runs and up to a decade beyond."""
    covered, plain = [], []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        table, target = designs(40, rng, (6, 8.5), (8, 10.5)), designs(4, rng, (6, 9), (8, 11))
        both = pd.concat([table, target], ignore_index=True)
        at = np.log10(both[["n", "tokens"]].to_numpy())
        correlation = matern(distances(at, at), 1.5) + 1e-10 * np.eye(len(at))
        off = 0.01 * np.linalg.cholesky(correlation) @ rng.normal(size=len(at)) + 0.003 * rng.normal(size=len(at))
        both["loss"] = loss(both) * np.exp(off)
        fit = fit_law("hoffmann", both[:40], n_boot=0)
        low, high = fit.get_prediction(target).interval()
        observed = both["loss"].to_numpy()[40:]
        covered.append((low <= observed) & (observed <= high))
        plain.append(np.abs(np.log(observed / fit.predict(target))) <= 1.645 * 0.003)
    assert np.mean(plain) < 0.7  # the noise alone does not explain what happens
    assert 0.85 <= np.mean(covered) <= 0.95


def test_an_exact_law_is_extrapolated_exactly():
    prediction = fit_law("hoffmann", points(0), n_boot=0).get_prediction(AHEAD)
    np.testing.assert_allclose(prediction.mean, loss(AHEAD), rtol=1e-4)
    assert (prediction.sd_param < 2e-3).all()


# --- what the interval is made of -------------------------------------------------------------


def test_the_parts_add_up():
    prediction = fit_law("hoffmann", points(), n_boot=0).get_prediction(AHEAD)
    frame = prediction.summary_frame()
    parts = frame[["sd_param", "sd_discrepancy", "sd_noise", "sd_extrapolation"]].to_numpy()
    half = stats.t.ppf(0.95, 8)
    all_of_them, without_noise = np.sqrt((parts**2).sum(axis=1)), np.sqrt((parts[:, [0, 1, 3]] ** 2).sum(axis=1))
    np.testing.assert_allclose(np.log(frame["obs_ci_upper"] / frame["mean"]), half * all_of_them)
    np.testing.assert_allclose(np.log(frame["mean"] / frame["obs_ci_lower"]), half * all_of_them)
    np.testing.assert_allclose(np.log(frame["mean_ci_upper"] / frame["mean"]), half * without_noise)
    np.testing.assert_allclose(frame["mean_se"], frame["mean"] * without_noise)
    assert (parts[:, :3] > 0).all()
    assert parts[1, 3] > 0


def test_levels_nest():
    prediction = fit_law("hoffmann", points(), n_boot=0).get_prediction(AHEAD, level=0.5)
    narrow, wide = prediction.summary_frame(), prediction.summary_frame(0.95)
    assert (wide["obs_ci_lower"] < narrow["obs_ci_lower"]).all()
    assert (wide["obs_ci_upper"] > narrow["obs_ci_upper"]).all()
    np.testing.assert_allclose(prediction.interval()[0], narrow["obs_ci_lower"])


def test_the_floor_is_of_compute_beyond_the_largest_run():
    table = points()
    compute = (6 * table["n"] * table["tokens"]).max()
    targets = pd.DataFrame({"n": [1e8, 1e10], "tokens": [1e9, 1e12]})
    prediction = fit_law("hoffmann", table, n_boot=0).get_prediction(targets)
    np.testing.assert_allclose(prediction.gap_decades, [0, math.log10(6e22 / compute)])
    np.testing.assert_allclose(prediction.sd_extrapolation, 0.015 * prediction.gap_decades)


def test_targets_of_another_kind_are_marked():
    table = points().query("10 <= tokens / n <= 1000")
    targets = pd.DataFrame({"n": [1e10, 1e10, 1e10], "tokens": [2e11, 1e10, 1e14]})
    prediction = fit_law("hoffmann", table, n_boot=0).get_prediction(targets)
    assert prediction.in_hull.tolist() == [True, False, False]


def test_with_no_discrepancy_and_no_priors_the_parameters_are_gauss_newtons():
    fit = fit_law("hoffmann", points(), loss="ls", n_boot=0)
    coordinates, columns = fit.problem.coordinates, fit.problem.columns
    sigma = float(np.sqrt(fit.resid @ fit.resid / fit.df_resid))
    domain = Domain.of(fit.law, fit.rows.columns)
    covariance = Covariance(domain.rows, None, np.ones(fit.nobs), np.zeros(fit.nobs), 1.0)
    row = np.sqrt(sigma**2 - 5e-4**2)
    sizes = np.log([1e-9, 1.5, row])
    kriging = Kriging.of(coordinates, columns, fit.rows.y, fit.phi, np.zeros(5), domain, covariance, sizes)
    targets = {name: AHEAD[name].to_numpy() for name in ("n", "tokens")}
    mean, parameters, discrepancy = kriging.predict(targets, domain.coordinates(targets))
    slopes = coordinates.slopes(fit.phi[None], columns)[0].T
    ahead = coordinates.slopes(fit.phi[None], targets)[0].T
    expected = sigma**2 * np.diagonal(ahead @ np.linalg.inv(slopes.T @ slopes) @ ahead.T)
    np.testing.assert_allclose(parameters, expected, rtol=1e-8)
    np.testing.assert_allclose(mean, np.log(fit.predict(AHEAD)), atol=1e-12)
    assert (discrepancy < 1e-15).all()


def test_at_fitted_rows_the_prediction_lies_between_the_law_and_the_observation():
    rng = np.random.default_rng(3)
    table = designs(60, rng)
    table["loss"] = loss(table) * np.exp(0.02 * np.sin(2 * np.log10(table["n"])) + 1e-4 * rng.normal(size=60))
    fit = fit_law("hoffmann", table, n_boot=0)
    prediction = fit.get_prediction(table)
    left = np.abs(np.log(table["loss"] / prediction.mean))
    assert left.mean() < 0.1 * np.abs(fit.resid).mean()
    far = fit.get_prediction(pd.DataFrame({"n": [1e12], "tokens": [1e14]}))
    assert (prediction.sd_mean < 0.2 * far.sd_mean).all()


def test_the_likelihood_is_that_of_the_residuals_with_the_parameters_integrated_out():
    rng = np.random.default_rng(0)
    at, residuals, slopes = rng.uniform(0, 3, (30, 2)), 0.01 * rng.normal(size=30), rng.normal(size=(30, 4))
    shared = (np.arange(30)[:, None] // 3 == np.arange(30) // 3).astype(float)
    precision = np.array([1.0, 4.0, 0.2, 2.0])
    covariance = Covariance(at, shared, rng.uniform(0.3, 1, 30), rng.uniform(0, 1e-5, 30), 1.0)
    mean, sd = covariance.prior

    def direct(sizes):
        whole = covariance.matrix(sizes) + slopes @ np.diag(1 / precision) @ slopes.T
        return (
            -stats.multivariate_normal(np.zeros(30), whole).logpdf(residuals) - stats.norm(mean, sd).logpdf(sizes).sum()
        )

    first, second = np.log([0.01, 1.0, 0.003, 0.004]), np.log([0.03, 0.4, 0.001, 0.01])
    value, slope = _restricted(covariance, residuals, slopes, precision, first)
    other, _ = _restricted(covariance, residuals, slopes, precision, second)
    assert value - other == pytest.approx(direct(first) - direct(second), rel=1e-9)
    for k in range(4):
        step = 1e-5 * np.eye(4)[k]
        assert slope[k] == pytest.approx((direct(first + step) - direct(first - step)) / 2e-5, rel=1e-3)


# --- noise ------------------------------------------------------------------------------------


def replicated(seeds=4, noise=0.004, rough=0.0):
    rng = np.random.default_rng(1)
    design = designs(25, rng)
    design["loss"] = loss(design) * np.exp(rough * rng.normal(size=25))
    table = pd.concat([design] * seeds, ignore_index=True)
    table["loss"] *= np.exp(noise * rng.normal(size=len(table)))
    return table


def test_replicates_tell_the_noise_and_seeds_at_the_target_halve_it():
    fit = fit_law("hoffmann", replicated(), n_boot=0)
    one, four = fit.get_prediction(AHEAD), fit.get_prediction(AHEAD, seeds=4)
    np.testing.assert_allclose(one.sd_noise, fit.rows.noise_sd(), rtol=0.05)
    np.testing.assert_allclose(four.sd_noise, one.sd_noise / 2)
    np.testing.assert_array_equal(one.sd_mean, four.sd_mean)


def test_a_few_diverged_runs_do_not_make_the_noise_of_the_others():
    table = replicated(seeds=8)
    clean = fit_law("hoffmann", table, n_boot=0)
    table.loc[::40, "loss"] *= 2
    dirty = fit_law("hoffmann", table, n_boot=0)
    assert dirty.rows.noise_sd() > 20 * clean.rows.noise_sd()
    assert dirty.get_prediction(AHEAD).sd_noise[0] < 8 * clean.get_prediction(AHEAD).sd_noise[0]


def test_a_noise_that_is_given_is_taken():
    fit = fit_law("hoffmann", points(0.004), n_boot=0)
    assert fit.get_prediction(AHEAD, noise=0.02).sd_noise == pytest.approx([0.02, 0.02])
    quiet, unknown = fit.get_prediction(AHEAD, noise=0.0), fit.get_prediction(AHEAD)
    np.testing.assert_allclose(quiet.interval(kind="obs"), quiet.interval(kind="mean"))
    np.testing.assert_allclose(quiet.sd_obs, unknown.sd_obs)  # scatter beyond the noise would be there in a new run too


def test_means_of_seeds_predict_as_their_points_do():
    table = replicated(rough=0.002)
    separate, mean = (
        fit_law("hoffmann", table, loss="ls", replicates=way, n_boot=0).get_prediction(AHEAD)
        for way in ("separate", "mean")
    )
    np.testing.assert_allclose(mean.mean, separate.mean, rtol=3e-3)
    np.testing.assert_allclose(mean.sd_noise, separate.sd_noise, rtol=0.05)
    np.testing.assert_allclose(mean.sd_mean, separate.sd_mean, rtol=0.35)


def test_checkpoints_of_a_run_share_its_noise():
    rng = np.random.default_rng(0)
    n = np.repeat(np.geomspace(1e6, 1e9, 10), 8)
    table = pd.DataFrame(
        {"n": n, "tokens": np.tile(np.geomspace(1e9, 1e11, 8), 10), "run": np.repeat(np.arange(10), 8)}
    )
    table["loss"] = loss(table) * np.exp(np.repeat(0.01 * rng.normal(size=10), 8) + 0.001 * rng.normal(size=80))
    known = fit_law("hoffmann", table, n_boot=0).get_prediction(AHEAD)
    assert 0.004 < known.sd_noise[0] < 0.02
    assert len(krige(fit_law("hoffmann", table, n_boot=0)).sizes) == 4
    assert len(krige(fit_law("hoffmann", table.drop(columns="run"), n_boot=0)).sizes) == 3


# --- priors and units -------------------------------------------------------------------------


def test_what_the_literature_knows_of_losses_is_used_for_nats_alone():
    narrow = points(0.01).query("3e6 < n < 1e8 and tokens < 3e9")
    fit = fit_law("hoffmann", narrow, n_boot=0)
    nats, other = fit.get_prediction(AHEAD), fit.get_prediction(AHEAD, unit="bits/byte")
    assert not np.array_equal(nats.mean, other.mean)
    small = narrow.assign(loss=0.4 * narrow["loss"])  # 1.75 is above its smallest loss, so it is not in nats a token
    fit = fit_law("hoffmann", small, n_boot=0)
    assert small["loss"].min() < 1.75
    np.testing.assert_array_equal(fit.get_prediction(AHEAD).mean, fit.get_prediction(AHEAD, unit="bits/byte").mean)


def test_another_unit_of_a_linear_response_changes_nothing_else():
    law, table = LAWS["gao_bon"], noisy(LAWS["gao_bon"], PLANTED["gao_bon"], 0.01)
    fits = [fit_law(law, table.assign(reward=scale * table["reward"]), n_boot=0) for scale in (1.0, 1000.0)]
    one, thousand = (fit.get_prediction({"distance": [1.0, 3.0, 15.0]}) for fit in fits)
    np.testing.assert_allclose(thousand.mean, 1000 * one.mean, rtol=1e-4)
    np.testing.assert_allclose(thousand.sd_obs, 1000 * one.sd_obs, rtol=1e-3)


# --- odd tables -------------------------------------------------------------------------------


def sound(prediction):
    frame = prediction.summary_frame()
    return bool(np.isfinite(frame.to_numpy(np.float64)).all() and (frame["obs_ci_lower"] < frame["obs_ci_upper"]).all())


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.slow
def test_every_law_predicts_its_own_table(name):
    table = noisy(LAWS[name], PLANTED[name], 0.01)
    near = {"start": PLANTED[name].params} if name in SOUGHT_LONG else {}
    fit = fit_law(name, table, columns={column: column for column in LAWS[name].columns}, n_boot=0, **near)
    prediction = fit.get_prediction(table)
    assert sound(prediction)
    low, high = prediction.interval()
    response = table[LAWS[name].response].to_numpy()
    assert ((low <= response) & (response <= high)).mean() > 0.8
    assert prediction.in_hull.all()


def _no_floor(table):
    """Losses that fall as one power to nothing: E is found to be 0."""
    return table.assign(loss=10 * table["n"] ** -0.04 * table["tokens"] ** -0.03)


ODD = {
    "six rows": lambda t: t.iloc[[0, 7, 15, 23, 31, 41]],
    "narrow N": lambda t: t.assign(n=1e8 * (t["n"] / 1e8) ** 0.02),
    "no E": _no_floor,
    "one loss": lambda t: t.assign(loss=3.0),
    "every row twice": lambda t: pd.concat([t, t], ignore_index=True),
    "residuals of one size": lambda t: t.assign(loss=t["loss"] * np.exp(0.01 * (-1.0) ** np.arange(len(t)))),
    "losses that rise": lambda t: t.assign(loss=1 / t["loss"]),
    "an outlier": lambda t: t.assign(loss=t["loss"].where(t.index != 20, 11.0)),
    "a line of designs": lambda t: t.assign(tokens=20 * t["n"]),
    "two runs": lambda t: t.assign(run=[str(k % 2) for k in range(len(t))]),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_odd_tables_are_predicted_soundly(name, noise):
    fit = fit_law("hoffmann", ODD[name](points(noise)), n_boot=0)
    assert sound(fit.get_prediction(AHEAD))


def test_an_outlier_has_little_say():
    clean, dirty = points(), points()
    dirty.loc[20, "loss"] *= 2
    a, b = (fit_law("hoffmann", table, n_boot=0).get_prediction(AHEAD) for table in (clean, dirty))
    assert (np.abs(np.log(a.mean / b.mean)) < a.sd_obs).all()


def test_a_table_whose_e_is_zero_still_admits_one():
    fit = fit_law("hoffmann", _no_floor(points()), n_boot=0)
    assert fit.theta["E"] == 0
    assert krige(fit).phi[2] > fit.phi[2]


def test_the_order_of_the_rows_does_not_count():
    table = points()
    a, b = (
        fit_law("hoffmann", t, n_boot=0).get_prediction(AHEAD) for t in (table, table.sample(frac=1, random_state=1))
    )
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-5)
    np.testing.assert_allclose(a.sd_obs, b.sd_obs, rtol=1e-3)


def test_predictions_are_the_same_to_the_bit():
    frames = [fit_law("hoffmann", points(), n_boot=0).get_prediction(AHEAD).summary_frame() for _ in range(2)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    one_by_one = [fit_law("hoffmann", points(), n_boot=0).get_prediction(AHEAD[k : k + 1]).mean[0] for k in range(2)]
    np.testing.assert_allclose(one_by_one, frames[0]["mean"], rtol=1e-12)


# --- large tables -----------------------------------------------------------------------------


def test_of_many_rows_those_that_fill_the_space_are_kept():
    rng = np.random.default_rng(0)
    crowd, few = rng.normal(0, 0.01, (50_000, 2)), rng.uniform(-3, 3, (200, 2))
    at = np.concatenate([crowd, few])
    kept = spread_rows(at, 1000)
    assert len(kept) == 1000
    assert len(np.unique(kept)) == 1000
    assert np.isin(np.arange(50_000, 50_200), kept).mean() > 0.8
    np.testing.assert_array_equal(kept, spread_rows(at, 1000))
    np.testing.assert_array_equal(spread_rows(few, 1000), np.arange(200))


def test_many_rows_of_few_designs_are_kept_alike_often():
    at = np.repeat(np.arange(50.0)[:, None], 1000, axis=0)
    kept = spread_rows(at, 1000)
    assert (np.bincount(kept // 1000) == 20).all()


@pytest.mark.slow
def test_a_large_table_predicts_as_its_part_does():
    rng = np.random.default_rng(0)
    table = designs(20_000, rng)
    table["loss"] = loss(table) * np.exp(0.01 * np.sin(np.log10(table["n"])) + 0.005 * rng.normal(size=len(table)))
    fit = fit_law("hoffmann", table, n_boot=0)
    assert len(krige(fit).covariance.at) == 1000
    prediction = fit.get_prediction({"n": 1e8, "tokens": np.full(5000, 1e10)})
    assert prediction.mean.shape == (5000,)
    expected = 0.01 * np.sin(8) + np.log(loss(pd.DataFrame({"n": [1e8], "tokens": [1e10]})))
    np.testing.assert_allclose(np.log(prediction.mean), np.full(5000, expected), atol=0.004)


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "options", "error", "match"),
    [
        ({"n": [1e9]}, {}, TableError, "no column for tokens"),
        ({"n": [1e9, -1.0], "tokens": 1e10}, {}, TableError, "n is -1 in row 2; accepted: a finite number above 0"),
        ({"n": [1e9], "tokens": np.nan}, {}, TableError, "tokens is nan in row 1"),
        (AHEAD, {"level": 1.0}, ConfigError, "level: found 1; accepted: above 0 and below 1"),
        (AHEAD, {"noise": -0.1}, ConfigError, "noise: found -0.1"),
        (AHEAD, {"noise": math.nan}, ConfigError, "noise: found nan"),
        (AHEAD, {"seeds": 0}, ConfigError, "seeds: found 0; accepted: 1 or more"),
    ],
)
def test_mistakes_are_told(targets, options, error, match):
    fit = fit_law("hoffmann", points(), n_boot=0)
    with pytest.raises(error, match=match):
        fit.get_prediction(targets, **options)
