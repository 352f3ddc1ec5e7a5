import numpy as np
import pytest

from testbed.analysis.fit import fit_law
from testbed.analysis.laws import LAWS
from testbed.errors import ConfigError
from tests.helpers.planted import PLANTED, noisy
from tests.helpers.public_tables import fitted_rows, needs_shared


@pytest.fixture(scope="module")
def fit():
    return fit_law("hoffmann", noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.005), loss="ls", n_boot=600)


@pytest.mark.parametrize("method", ["percentile", "bca", "profile"])
def test_intervals_hold_their_estimate_and_their_shape(fit, method):
    bounds = fit.conf_int(0.1, method)
    assert list(bounds.index) == list(fit.theta)
    assert (bounds["low"] < fit.params).all()
    assert (fit.params < bounds["high"]).all()
    narrow = fit.conf_int(0.5, method)
    assert (narrow["high"] - narrow["low"] < bounds["high"] - bounds["low"]).all()


def test_a_profile_of_least_squares_is_the_textbooks(fit):
    """For normal errors the profile's ends are near estimate +- 1.645 standard errors of Gauss-Newton."""
    jacobian = fit.problem.coordinates.slopes(fit.phi[None], fit.problem.columns)[0].T
    covariance = np.linalg.inv(jacobian.T @ jacobian) * (fit.resid**2).sum() / fit.df_resid
    bounds = fit.conf_int(0.1, "profile")
    for name in ("alpha", "beta"):
        k = [p.name for p in fit.problem.coordinates.free].index(name)
        half = 1.645 * np.sqrt(covariance[k, k])
        assert bounds["high"][name] - bounds["low"][name] == pytest.approx(2 * half, rel=0.1)


def test_a_profile_rises_from_its_estimate_on_both_sides(fit):
    at = fit.theta["alpha"] + np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    rise = fit.profile("alpha", at)["rise"].to_numpy()
    assert rise[2] == pytest.approx(0, abs=1e-6)
    assert rise[0] > rise[1] > rise[2] < rise[3] < rise[4]
    ends = fit.conf_int(0.1, "profile").loc["alpha"]
    np.testing.assert_allclose(fit.profile("alpha", ends.to_numpy())["rise"], 1.6448536**2, rtol=1e-3)


def test_a_run_left_out_moves_the_parameters_to_its_own_fit(fit):
    left_out = fit.influence()
    points = fit.points.drop(index=7)
    again = fit_law("hoffmann", points, loss="ls", n_boot=0)
    assert left_out.iloc[7].to_dict() == pytest.approx(again.theta, rel=1e-6)


@needs_shared
def test_intervals_on_epochs_points():
    """Figures of an independent computation on the same 240 points: percentile, BCa, profile at 95 %."""
    fit = fit_law("hoffmann", fitted_rows("chinchilla_epoch/runs.csv used_in_published_fit==1"), n_boot=4000)
    expected = {
        "percentile": {"alpha": (0.3168, 0.3733), "beta": (0.3313, 0.4154), "E": (1.769, 1.871)},
        "bca": {"alpha": (0.3183, 0.3752), "beta": (0.3277, 0.4119), "E": (1.775, 1.877)},
        "profile": {"alpha": (0.325, 0.368), "beta": (0.347, 0.387), "E": (1.783, 1.847)},
    }
    for method, ends in expected.items():
        bounds = fit.conf_int(0.05, method)
        for name, (low, high) in ends.items():
            width = high - low
            assert bounds["low"][name] == pytest.approx(low, abs=0.08 * width), (method, name)
            assert bounds["high"][name] == pytest.approx(high, abs=0.08 * width), (method, name)


def test_intervals_that_cannot_be_given(fit):
    with pytest.raises(ConfigError, match="needs at least 20"):
        fit_law("hoffmann", fit.points, n_boot=5).conf_int()
    with pytest.raises(ConfigError, match="found 'wald'; accepted: percentile, bca, profile"):
        fit.conf_int(0.1, "wald")
    with pytest.raises(ConfigError, match="level"):
        fit.conf_int(1.5)
    with pytest.raises(ConfigError, match="'gamma' is not a free parameter of hoffmann"):
        fit.profile("gamma", [1.0])
