import numpy as np
import pytest

from testbed.analysis.fit import fit_law
from testbed.analysis.laws import LAWS
from testbed.errors import ConfigError
from tests.helpers.planted import PLANTED, noisy


@pytest.fixture(scope="module")
def fit():
    return fit_law("hoffmann", noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.003), n_boot=100)


def test_the_frontier_is_the_closed_form_of_the_additive_law(fit):
    t = fit.params
    budgets = np.array([1e19, 1e22, 5.88e23])
    best = fit.frontier(budgets)
    g = (t["alpha"] * t["A"] / (t["beta"] * t["B"])) ** (1 / (t["alpha"] + t["beta"]))  # arXiv:2203.15556, eq. 4
    n = g * (budgets / 6) ** (t["beta"] / (t["alpha"] + t["beta"]))
    np.testing.assert_allclose(best["n"], n, rtol=1e-6)
    np.testing.assert_allclose(6 * best["n"] * best["tokens"], budgets, rtol=1e-12)
    np.testing.assert_allclose(best["tokens_per_param"], best["tokens"] / best["n"])
    np.testing.assert_allclose(best["loss"], fit.predict(best))
    for name in ("n", "tokens", "tokens_per_param", "loss"):
        assert (best[f"{name}_low"] < best[name]).all()
        assert (best[name] < best[f"{name}_high"]).all()


def test_serving_pays_for_smaller_models(fit):
    plain = fit.frontier(1e22).iloc[0]
    served = fit.frontier(1e22, inference_tokens=1e13).iloc[0]
    assert served["n"] < plain["n"]
    assert 6 * served["n"] * served["tokens"] + 2 * served["n"] * 1e13 == pytest.approx(1e22, rel=1e-9)


def test_a_law_without_an_optimum_says_so():
    law = fit_law("kaplan_nd", noisy(LAWS["kaplan_nd"], PLANTED["kaplan_nd"], 0.003), n_boot=20)
    assert law.frontier(1e21)["n"].notna().all()
    points = noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.001)
    flat = fit_law("hoffmann", points, fixed={"B": 0.0}, n_boot=0)
    assert np.isnan(flat.frontier(1e21)["n"][0])


def test_what_a_loss_costs(fit):
    tokens = fit.solve(2.4, n=1e9)
    assert fit.predict(n=1e9, tokens=tokens["value"])[0] == pytest.approx(2.4, rel=1e-9)
    assert tokens.name == "tokens"
    assert tokens["low"] < tokens["value"] < tokens["high"]
    flops = fit.solve(2.4)
    assert fit.frontier(flops["value"])["loss"][0] == pytest.approx(2.4, rel=1e-7)
    assert flops["value"] <= 6 * 1e9 * tokens["value"]
    never = fit.solve(1.0, n=1e9)
    assert (never["value"], never["reached"]) == (np.inf, 0.0)


def test_questions_that_make_no_sense(fit):
    with pytest.raises(ConfigError, match="accepted: all but one"):
        fit.solve(2.0, n=1e9, tokens=1e10)
    with pytest.raises(ConfigError, match="accepted: all but one"):
        fit.solve(2.0, width=12)
    with pytest.raises(ConfigError, match="accepted: finite numbers above 0"):
        fit.frontier(-1e20)
    one = fit_law("kaplan_n", noisy(LAWS["kaplan_n"], PLANTED["kaplan_n"]), n_boot=0)
    with pytest.raises(ConfigError, match="needs a law of loss by n and tokens"):
        one.frontier(1e20)
