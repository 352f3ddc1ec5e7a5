"""Laws of size and data against published figures on public tables; where a figure is no optimum, what is right."""

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.fit import fit_law
from testbed.analysis.laws import LAWS
from testbed.errors import TableError
from tests.helpers.planted import PLANTED, Planted, noisy
from tests.helpers.public_tables import SHARED, fitted_rows, needs_shared


def table(path: str, **names: str) -> pd.DataFrame:
    """A public table with its columns under the canonical names."""
    return pd.read_csv(SHARED / "data" / path).rename(columns=names)


def fitted(name: str, points: pd.DataFrame, **options):
    law = LAWS[name]
    kept = points[[*law.columns, law.response]].astype(float)
    return fit_law(law, kept, columns={c: c for c in (*law.columns, law.response)}, n_boot=0, **options)


def relative_errors(fit, points: pd.DataFrame) -> np.ndarray:
    return fit.predict(points[list(fit.law.columns)]) / points[fit.law.response].to_numpy() - 1


# --- Gadre et al., over-training ------------------------------------------------------------------


def overtrained(corpus: str, *roles: str) -> pd.DataFrame:
    runs = table("gadre_overtraining/runs.csv", n_params="n", loss_c4_val="loss", err_avg17="error")
    return runs[(runs["train_data"] == corpus) & runs["published_role"].isin(roles)]


@needs_shared
@pytest.mark.parametrize(
    "corpus, coefficients, misses",
    [
        ("c4_original", (113.69, 189.52, 0.24247, 1.5083), (1.50, -4.30)),
        ("rpj", (166.21, 366.69, 0.27285, 1.8366), (0.7103, 0.7320)),
        ("rw_original", (125.10, 246.21, 0.25439, 1.7345), (-0.01, -1.62)),
    ],
)
def test_gadre_reproduces_its_coefficients_and_its_forecasts_of_loss(corpus, coefficients, misses):
    fit = fitted("gadre", overtrained(corpus, "loss_fit"), loss="ls", space="linear")
    a, b, eta, constant = coefficients
    assert fit.theta == pytest.approx({"a": a, "b": b, "eta": eta, "E": constant}, rel=1e-4)
    # The published accuracy (.71 %, .73 %) is RedPajama's; the same recipe misses C4's 6.9B model by 4.3 %.
    found = 100 * relative_errors(fit, overtrained(corpus, "target"))
    assert found == pytest.approx(misses, abs=6e-5 if corpus == "rpj" else 6e-3)


@needs_shared
def test_gadre_error_reproduces_its_forecasts_of_downstream_error():
    loss = fitted("gadre", overtrained("rpj", "loss_fit"), loss="ls", space="linear")
    error = fitted("gadre_error", overtrained("rpj", "loss_fit", "error_fit_only"))
    targets = overtrained("rpj", "target")
    foreseen = targets.assign(loss=loss.predict(targets[["n", "tokens_per_param"]]))
    assert 100 * relative_errors(error, foreseen) == pytest.approx((3.6365, 0.0464), abs=6e-5)
    assert error.space == "linear" and error.loss == "ls"


def test_gadre_is_the_papers_form_in_compute():
    """E + (a M^eta + b M^-eta) C^-eta of the paper, by the relation its docstring states."""
    params, n, tokens_per_param = PLANTED["gadre"].params, np.array([1e8, 3e9]), np.array([20.0, 320.0])
    compute, half = 6 * n**2 * tokens_per_param, params["eta"] / 2
    a = params["a"] * 6**half
    paper = params["E"] + (a * tokens_per_param**half + params["b"] * tokens_per_param**-half) * compute**-half
    law = LAWS["gadre"]
    ours = law.value(
        {name: np.array([[value]]) for name, value in params.items()},
        law.prepare({"n": n, "tokens_per_param": tokens_per_param}),
    )
    np.testing.assert_allclose(ours[0], paper, rtol=1e-13)


# --- Muennighoff et al., repeated data ------------------------------------------------------------

SINGLE_EPOCH = {
    "A": np.exp(6.255414),
    "B": np.exp(7.3049974),
    "E": np.exp(0.6254804),
    "alpha": 0.3526596,
    "beta": 0.3526596,
}
PUBLISHED = {**SINGLE_EPOCH, "R_D": 15.387756, "R_N": 5.309743}


def repeated() -> pd.DataFrame:
    runs = table("datablations_repeated/runs.csv", n_params="n", n_tokens="tokens", n_unique_tokens="unique_tokens")
    return runs[runs["in_published_fit"] == 1]


@needs_shared
@pytest.mark.parametrize("decays, rsquared", [((15.387756, 5.309743), 0.7722), ((1e12, 1e12), 0.4452)])
def test_muennighoff_explains_what_was_published(decays, rsquared):
    law, runs = LAWS["muennighoff"], repeated()
    params = {**SINGLE_EPOCH, "R_D": decays[0], "R_N": decays[1]}  # without decay, repeats are as good as new
    theta = {name: np.array([[value]]) for name, value in params.items()}
    predicted = law.value(theta, law.prepare({name: runs[name] for name in law.columns}))[0]
    left = ((runs["loss"] - predicted) ** 2).sum()
    assert 1 - left / ((runs["loss"] - runs["loss"].mean()) ** 2).sum() == pytest.approx(rsquared, abs=5e-5)


@needs_shared
def test_muennighoffs_published_decays_are_a_local_optimum():
    """15.4 and 5.3 end their own descent at .0158259; the search finds .0158047 at R_D* 95, R_N* 1.7."""
    fit = fitted("muennighoff", repeated(), fixed=SINGLE_EPOCH)
    assert fit.converged
    assert fit.objective == pytest.approx(0.0158047, abs=6e-8)
    assert (fit.theta["R_D"], fit.theta["R_N"]) == pytest.approx((95.4, 1.706), rel=1e-3)
    start = fit.problem.coordinates.coordinates(PUBLISHED)[None]
    near = fit.problem.solve(fit.rows.y, np.ones((1, fit.nobs)), start)
    assert near.converged[0]
    assert near.objective[0] == pytest.approx(0.0158259, abs=5e-8)
    theta = dict(zip(fit.theta, fit.problem.coordinates.natural(near.phi)[0], strict=True))
    assert (theta["R_D"], theta["R_N"]) == pytest.approx((15.39, 5.31), rel=2e-3)


def test_muennighoff_is_hoffmann_where_nothing_repeats_and_no_size_is_in_excess():
    law, planted = LAWS["muennighoff"], PLANTED["hoffmann"]
    small = planted.columns["n"] < 1e7  # the tokens are more than enough for these
    columns = {name: values[small] for name, values in planted.columns.items()}
    theta = {name: np.array([[value]]) for name, value in {**planted.params, "R_D": 3.0, "R_N": 3.0}.items()}
    # More distinct tokens than were seen: those seen are all distinct.
    loss = law.value(theta, law.prepare({**columns, "unique_tokens": 7 * columns["tokens"]}))
    np.testing.assert_allclose(loss, LAWS["hoffmann"].value(theta, columns), rtol=1e-12)


# --- Goyal et al., utility that decays ------------------------------------------------------------


def test_goyal_is_the_papers_product_at_whole_epochs():
    law, params = LAWS["goyal"], PLANTED["goyal"].params
    pool = 1e8
    theta = {name: np.array([[value]]) for name, value in params.items()}
    curve = law.value(theta, law.prepare({"tokens": pool * np.arange(1.0, 9.0), "unique_tokens": np.full(8, pool)}))[0]
    expected = params["a"] * pool ** -params["b"]
    for epoch in range(1, 9):
        if epoch > 1:
            utility = params["b"] * 0.5 ** ((epoch - 1) / params["tau"])
            expected *= (epoch / (epoch - 1)) ** -utility
        assert curve[epoch - 1] == pytest.approx(params["d"] + expected, rel=1e-12)


def test_goyal_is_continuous_in_epochs_and_a_power_law_in_the_first():
    law, params = LAWS["goyal"], PLANTED["goyal"].params
    theta = {name: np.array([[value]]) for name, value in params.items()}

    def loss(epochs):
        tokens = 1e8 * np.asarray(epochs)
        return law.value(theta, law.prepare({"tokens": tokens, "unique_tokens": np.full(len(tokens), 1e8)}))[0]

    around = loss([3 - 1e-9, 3, 3 + 1e-9])
    assert np.ptp(around) < 1e-8
    first = np.array([0.01, 0.2, 1.0])
    np.testing.assert_allclose(loss(first), params["d"] + params["a"] * (1e8 * first) ** -params["b"], rtol=1e-12)


def test_goyal_refuses_epochs_beyond_counting():
    points = noisy(LAWS["goyal"], PLANTED["goyal"])
    points.loc[3, "unique_tokens"] = 10.0
    with pytest.raises(TableError, match=r"tokens / unique_tokens is .* in row 3; goyal accepts up to 20000 epochs"):
        fitted("goyal", points)


# --- coupled forms --------------------------------------------------------------------------------

EPOCH = "chinchilla_epoch/runs.csv used_in_published_fit==1"


@needs_shared
def test_coupled_reaches_its_optimum_on_chinchillas_runs():
    fit = fitted("coupled", fitted_rows(EPOCH))
    assert fit.converged
    assert fit.objective == pytest.approx(0.000954184500286942, rel=1e-8)  # the table rounds to 10 digits
    assert fit.theta["k"] == pytest.approx(0.774, abs=5e-4)


def test_coupled_contains_hoffmann():
    fit = fit_law("coupled", noisy(LAWS["hoffmann"], PLANTED["hoffmann"]), n_boot=0)
    assert fit.theta == pytest.approx({**PLANTED["hoffmann"].params, "k": 1.0}, rel=1e-6)


@needs_shared
@pytest.mark.slow
def test_farseer_reaches_its_optimum_on_chinchillas_runs():
    fit = fitted("farseer", fitted_rows(EPOCH))
    assert fit.converged
    assert fit.objective <= 0.000791419726


@needs_shared
@pytest.mark.slow
def test_farseers_surface_depends_on_the_unit_of_tokens():
    """With tokens counted in the table's geometric mean the optimum is lower; every other law's would stay."""
    runs = fitted_rows(EPOCH)
    runs["tokens"] /= np.exp(np.log(runs["tokens"]).mean())
    as_they_are = {"units": {"n": "1", "tokens": "1"}}
    assert fitted("farseer", runs, **as_they_are).objective <= 0.000790509589142237
    assert fitted("coupled", runs, **as_they_are).objective == pytest.approx(0.000954184500286942, rel=1e-8)


def test_farseer_and_the_papers_coefficients_are_each_others_reverse():
    law, params = LAWS["farseer"], PLANTED["farseer"].params
    published = law.published(params)
    assert law.stated(published) == pytest.approx(params, rel=1e-12)
    n, tokens = np.array([1e8, 2e9, 5e10]), np.array([1e10, 1e12, 3e9])
    floor = np.exp(published["a3"] * n ** published["gamma"] + published["b3"])
    power = np.exp(published["a1"] * n ** published["alpha"] + published["b1"])
    paper = floor + np.exp(published["a2"] * n ** published["beta"] + published["b2"]) * tokens**-power
    theta = {name: np.array([[value]]) for name, value in params.items()}
    np.testing.assert_allclose(law.value(theta, law.prepare({"n": n, "tokens": tokens}))[0], paper, rtol=1e-11)


@pytest.mark.parametrize("straight", ["alpha", "beta", "gamma"])
def test_farseer_has_no_gap_where_an_exponent_is_zero(straight):
    law, columns = LAWS["farseer"], LAWS["farseer"].prepare(PLANTED["farseer"].columns)

    def at(power):
        params = {**PLANTED["farseer"].params, straight: power}
        theta = {name: np.array([[value]]) for name, value in params.items()}
        return law.value(theta, columns), law.gradient(theta, columns)

    (zero, slopes), (small, near) = at(0.0), at(1e-7)
    np.testing.assert_allclose(zero, small, rtol=1e-5)
    for name, slope in slopes.items():
        np.testing.assert_allclose(slope, near[name], rtol=1e-5, atol=1e-5 * np.abs(slope).max())


# --- breaks ---------------------------------------------------------------------------------------


@needs_shared
def test_bnsl_follows_a_curve_past_its_break_where_a_power_law_fails():
    points = table("bnsl_4digit_addition/points.csv", dataset_size="tokens", test_loss="loss")
    train, held_out = (points[points["published_split"] == split] for split in ("train", "test"))
    fit = fitted("bnsl", train)
    assert fit.converged
    predicted, loss = fit.predict(train[["tokens"]]), train["loss"].to_numpy()
    assert np.sqrt(np.mean((np.log1p(predicted) - np.log1p(loss)) ** 2)) == pytest.approx(0.00040, abs=1e-5)
    assert fit.theta["d1"] == pytest.approx(612.6, rel=2e-3)
    assert fit.theta["c1"] == pytest.approx(5.66, rel=2e-2)
    assert np.abs(relative_errors(fit, held_out)).max() < 0.02
    for plain in ("hestness", "henighan_d"):
        assert np.abs(relative_errors(fitted(plain, train), held_out)).min() > 0.9


def test_bnsls_second_break_lies_beyond_the_first():
    params = PLANTED["bnsl2"].params
    d1, d2 = params["d1"], params["d1"] * (1 + params["gap2"])
    x = np.geomspace(30, 3e7, 5)
    product = params["b"] * x ** -params["c0"]
    for c, d, f in ((params["c1"], d1, params["f1"]), (params["c2"], d2, params["f2"])):
        product *= (1 + (x / d) ** (1 / f)) ** (-c * f)
    theta = {name: np.array([[value]]) for name, value in params.items()}
    np.testing.assert_allclose(LAWS["bnsl2"].value(theta, {"tokens": x})[0], params["a"] + product, rtol=1e-12)


# --- power law plus constant ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, constant",
    [
        ("henighan_n", "E"),
        ("henighan_d", "E"),
        ("henighan_c", "E"),
        ("hestness", "gamma"),
        ("coupled", "E"),
        ("gadre", "E"),
        ("muennighoff", "E"),
        ("goyal", "d"),
        ("bnsl", "a"),
    ],
)
def test_a_constant_that_is_not_there_is_zero(name, constant):
    law, planted = LAWS[name], PLANTED[name]
    params = {**planted.params, constant: 0.0}
    fit = fitted(name, noisy(law, Planted(params, planted.columns)))
    assert fit.at_zero == (constant,)
    assert fit.theta == pytest.approx(params, rel=1e-4)
