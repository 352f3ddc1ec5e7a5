"""What holds of every law of the library."""

import re
from functools import cache

import numpy as np
import pytest

from testbed.analysis.fit import fit_law
from testbed.analysis.fit.coordinates import Coordinates
from testbed.analysis.fit.search import best_starts
from testbed.analysis.laws import LAWS, find_law, plain_formula
from testbed.errors import ConfigError
from tests.helpers.planted import PLANTED, noisy

SLOW = ("bnsl2", "farseer", "goyal_pools4")  # a fit takes five to ten seconds
FITTED = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in LAWS]


@cache
def near_fit_of(name):
    """The optimum next to the truth, of a table with noise."""
    table = noisy(LAWS[name], PLANTED[name], 0.003)
    return fit_law(name, table, columns={c: c for c in LAWS[name].columns}, start=PLANTED[name].params, n_boot=0)


def test_every_law_has_a_planted_truth():
    assert set(PLANTED) == set(LAWS)


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.slow
def test_planted_parameters_are_recovered(name):
    table = noisy(LAWS[name], PLANTED[name])
    fit = fit_law(name, table, columns={c: c for c in LAWS[name].columns}, n_boot=0)
    assert fit.converged
    assert fit.theta == pytest.approx(PLANTED[name].params, rel=1e-6)


@pytest.mark.parametrize("name", LAWS)
def test_slopes_are_those_of_the_response(name):
    fit = near_fit_of(name)
    coordinates, columns = fit.problem.coordinates, fit.problem.columns
    phi = np.concatenate([fit.phi[None], best_starts(fit.problem.kernel, fit.rows.y, np.ones(fit.nobs))[:3]])
    slopes = coordinates.slopes(phi, columns)
    for k in range(phi.shape[1]):
        ahead, behind = phi.copy(), phi.copy()
        ahead[:, k] += 1e-5
        behind[:, k] -= 1e-5
        by_difference = (coordinates.response(ahead, columns) - coordinates.response(behind, columns)) / 2e-5
        size = np.abs(slopes[:, k]).max(axis=1, keepdims=True) + 1e-9
        assert (np.abs(slopes[:, k] - by_difference) < 2e-5 * size).all(), coordinates.free[k].name
        np.testing.assert_allclose(slopes[:, k], coordinates._complex_slope(phi, k, columns), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", LAWS)
def test_derivatives_of_the_objective_are_those_of_its_value(name):
    fit = near_fit_of(name)
    kernel, y = fit.problem.kernel, fit.rows.y
    phi, p = fit.phi + 0.01, len(fit.phi)
    at = np.concatenate([phi[None], phi + 1e-5 * np.eye(p), phi - 1e-5 * np.eye(p)])
    value, gradient, hessian = kernel.evaluate(at, y, np.ones((len(at), len(y))), np.full(len(at), 1e3))
    slopes = (value[1 : p + 1] - value[p + 1 :]) / 2e-5
    bends = (gradient[:, 1 : p + 1] - gradient[:, p + 1 :]) / 2e-5
    np.testing.assert_allclose(gradient[:, 0], slopes, atol=1e-5 * np.abs(slopes).max())
    np.testing.assert_allclose(hessian[:, :, 0], bends, atol=1e-4 * np.abs(bends).max())


@pytest.mark.parametrize("name", LAWS)
def test_coordinates_and_parameters_are_each_others_reverse(name):
    law, planted = LAWS[name], PLANTED[name]
    columns = law.prepare(planted.columns)
    response = noisy(law, planted)[law.response].to_numpy()
    coordinates = Coordinates.of(law, columns, np.log(response) if law.space == "log" else response)
    back = coordinates.parameters(coordinates.coordinates(planted.params)[None])
    assert {key: float(value[0, 0]) for key, value in back.items()} == pytest.approx(planted.params, rel=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_laws_say_where_they_come_from(name):
    law = LAWS[name]
    assert re.search(r"arXiv:\d{4}\.\d{5}", law.source)
    assert "\\" not in plain_formula(law)
    assert type(law).__doc__
    assert law.response not in law.columns
    assert {c for p in law.parameters for c in p.falls} <= set(law.prepare(PLANTED[name].columns))


def test_formulas_are_readable_on_a_terminal():
    assert plain_formula(LAWS["hoffmann"]) == "L = E + A/N^alpha + B/D^beta"
    assert plain_formula(LAWS["kaplan"]) == "L = E + (A/N^a + B/D)^b"


def test_an_unknown_law_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown law 'hofmann'; accepted: hoffmann, hoffmann_tied, kaplan"):
        find_law("hofmann")
    with pytest.raises(ConfigError, match=r"not agreed to run.*testbed --allow-code no\.module"):
        find_law("no.module:Law")
    assert find_law("testbed.analysis.laws.kaplan:Kaplan").name == "kaplan"
