import numpy as np
import pytest

from testbed.analysis.fit import fit_law
from testbed.analysis.fit.regressor import ScalingLawRegressor
from testbed.analysis.laws import LAWS
from testbed.errors import ConfigError

from .planted import PLANTED, noisy


def test_an_estimator_fits_predicts_and_clones():
    points = noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.003)
    made = ScalingLawRegressor(n_boot=30, delta=1e-2).fit(points[["n", "tokens"]], points["loss"])
    assert made.params_.equals(fit_law("hoffmann", points, delta=1e-2, n_boot=30).params)
    from_array = ScalingLawRegressor(n_boot=30, delta=1e-2).fit(points[["n", "tokens"]].to_numpy(), points["loss"])
    np.testing.assert_array_equal(made.predict(points), from_array.predict(points[["n", "tokens"]].to_numpy()))
    mean, sd = made.predict(points, return_std=True)
    assert (sd > 0).all()
    np.testing.assert_allclose(mean, points["loss"], rtol=0.02)
    assert made.score(points, points["loss"]) > 0.999
    clone = ScalingLawRegressor(**made.get_params())
    assert clone.get_params() == made.get_params()
    assert not hasattr(clone, "fit_")
    assert clone.set_params(law="kaplan").law == "kaplan"


def test_what_it_does_not_take_is_told():
    with pytest.raises(ConfigError, match="no argument alpha; accepted: law, loss, delta"):
        ScalingLawRegressor().set_params(alpha=1)
    with pytest.raises(ConfigError, match=r"found shape \(3, 3\); accepted: a column each for n, tokens"):
        ScalingLawRegressor().fit(np.ones((3, 3)), np.ones(3))
