import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from testbed.analysis.fit import fit_law
from testbed.analysis.fit.regressor import ScalingLawRegressor
from testbed.analysis.laws import LAWS
from testbed.errors import ConfigError
from tests.helpers.planted import PLANTED, noisy

# sklearn's checks that bring no data of their own; the others fit tables of any width, and a law has its own columns.
CHECKS = (
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


@pytest.fixture(scope="module")
def points():
    return noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.003)


def test_it_fits_and_predicts_what_fit_law_does(points):
    made = ScalingLawRegressor(n_boot=30, delta=1e-2).fit(points[["n", "tokens"]], points["loss"])
    assert made.params_.equals(fit_law("hoffmann", points, delta=1e-2, n_boot=30).params)
    assert made.feature_names_in_.tolist() == ["n", "tokens"]
    from_array = ScalingLawRegressor(n_boot=30, delta=1e-2).fit(points[["n", "tokens"]].to_numpy(), points["loss"])
    np.testing.assert_array_equal(made.predict(points), from_array.predict(points[["n", "tokens"]].to_numpy()))
    mean, sd = made.predict(points, return_std=True)
    assert (sd > 0).all()
    np.testing.assert_allclose(mean, points["loss"], rtol=0.02)
    assert made.score(points, points["loss"]) > 0.999


def test_cross_validation_tells_a_scaling_law_from_a_straight_line(points):
    folds = KFold(4, shuffle=True, random_state=0)
    X, y = points[["n", "tokens"]], points["loss"]
    by_law, by_line = (
        cross_val_score(each, X, y, cv=folds, error_score="raise")
        for each in (ScalingLawRegressor(n_boot=0), LinearRegression())
    )
    assert by_law.min() > 0.99 > by_line.max()


def test_a_grid_search_finds_the_law_that_was_planted(points):
    folds = KFold(4, shuffle=True, random_state=0)
    grid = {"law": ["kaplan_n", "hoffmann"], "loss": ["huber", "ls"]}
    found = GridSearchCV(ScalingLawRegressor(n_boot=0), grid, cv=folds, error_score="raise")
    found.fit(points[["n", "tokens"]], points["loss"])
    assert found.best_params_["law"] == "hoffmann"
    assert found.best_estimator_.params_["alpha"] == pytest.approx(PLANTED["hoffmann"].params["alpha"], rel=0.1)


def test_in_a_pipeline_the_steps_before_it_count(points):
    scaled = points[["n", "tokens"]] / [1e6, 1e9]
    line = make_pipeline(FunctionTransformer(lambda X: X * [1e6, 1e9]), ScalingLawRegressor(n_boot=0))
    line.fit(scaled, points["loss"])
    plain = ScalingLawRegressor(n_boot=0).fit(points[["n", "tokens"]], points["loss"])
    np.testing.assert_allclose(line.predict(scaled), plain.predict(points), rtol=1e-9)
    assert line.set_params(scalinglawregressor__law="kaplan").fit(scaled, points["loss"])[-1].fit_.law.name == "kaplan"


def test_a_clone_has_the_parameters_and_no_fit(points):
    fitted = ScalingLawRegressor(LAWS["hoffmann_tied"], n_boot=0, fixed={"E": 1.5})
    fitted.fit(points[["n", "tokens"]], points["loss"])
    copy = clone(fitted)
    assert copy.get_params().keys() == fitted.get_params().keys()
    assert (copy.law.name, copy.fixed, copy.n_boot) == ("hoffmann_tied", {"E": 1.5}, 0)
    with pytest.raises(NotFittedError):
        copy.predict(points)


@pytest.mark.parametrize("check", CHECKS)
def test_checks_of_scikit_learn(check):
    getattr(estimator_checks, check)("ScalingLawRegressor", ScalingLawRegressor())


def test_what_it_does_not_take_is_refused():
    with pytest.raises(ValueError, match="Invalid parameter 'alpha'"):
        ScalingLawRegressor().set_params(alpha=1)
    with pytest.raises(ConfigError, match=r"found shape \(3, 3\); accepted: a column each for n, tokens"):
        ScalingLawRegressor().fit(np.ones((3, 3)), np.ones(3))


def test_without_scikit_learn_the_import_names_the_extra():
    code = "import sys; sys.modules['sklearn'] = None; import testbed.analysis.fit.regressor"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert "ImportError: ScalingLawRegressor needs scikit-learn, which the extra [sklearn] brings" in run.stderr
