"""Tables that no law was made for: a clear error, or a fit with the right doubt; never a crash or a silent wrong one."""

import json

import numpy as np
import pandas as pd
import pytest

from testbed.errors import TableError
from testbed.fit import Fit, fit_law
from testbed.fit.comparison import compare
from testbed.laws import LAWS

from .planted import PLANTED, noisy

TARGET = {"n": 1e10, "tokens": 1e12}


def table():
    return noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.004)


FITTED = {  # how the table differs from a good one, and a doubt that has to be raised
    "every row three times": (lambda t: pd.concat([t] * 3), "duplicates"),
    "one run": (lambda t: t.assign(run="only"), "few-runs"),
    "two runs": (lambda t: t.assign(run=np.where(t.index % 2, "a", "b")), "few-runs"),
    "the same loss everywhere": (lambda t: t.assign(loss=2.5), "unidentified"),
    "losses that rise with size": (lambda t: t.assign(loss=1 / t["loss"]), "unidentified"),
    "tokens in step with size": (lambda t: t.assign(tokens=20 * t["n"]), "unidentified"),
    "nothing but noise": (lambda t: t.assign(loss=np.random.default_rng(0).uniform(2, 3, len(t))), "unidentified"),
    "bits for nats": (lambda t: t.assign(loss=t["loss"] / 10), "unit"),
}


@pytest.mark.parametrize("name", FITTED)
def test_what_can_be_fitted_is_fitted_and_doubted_to_the_end_of_the_way(name):
    change, doubt = FITTED[name]
    changed = change(table())
    fit = fit_law("hoffmann", changed, n_boot=60)
    assert doubt in {finding.code for finding in fit.diagnostics(changed)}
    again = Fit.from_dict(json.loads(json.dumps(fit.to_dict(), allow_nan=False)))
    frame = again.get_prediction(TARGET).summary_frame()
    assert np.isfinite(frame.select_dtypes("number")).all(axis=None)
    assert frame["obs_ci_lower"][0] < frame["mean"][0] < frame["obs_ci_upper"][0]
    for method in ("percentile", "bca"):
        assert (fit.conf_int(0.1, method)["low"] <= fit.conf_int(0.1, method)["high"]).all()
    assert compare(["hoffmann", "hoffmann_tied"], changed, target=TARGET, n_boot=40).to_dict()["laws"]


def test_the_order_of_rows_and_numbers_beyond_64_bits_change_nothing():
    whole = table()
    fit = fit_law("hoffmann", whole, n_boot=0)
    shuffled = fit_law("hoffmann", whole.sample(frac=1, random_state=1), n_boot=0)
    assert shuffled.theta == pytest.approx(fit.theta, rel=1e-8)
    huge = fit_law("hoffmann", whole.assign(n=[2**64 * int(n) for n in whole["n"]]), n_boot=0)
    assert huge.theta["alpha"] == pytest.approx(fit.theta["alpha"], rel=1e-6)
    assert huge.theta["A"] == pytest.approx(fit.theta["A"] * 2.0 ** (64 * fit.theta["alpha"]), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, -1.5, np.nan, np.inf, "n/a", True, None])
@pytest.mark.parametrize("column", ["n", "tokens", "loss"])
def test_what_is_no_number_above_zero_is_told_with_its_row(column, value):
    broken = table().astype({column: object})
    broken.loc[7, column] = value
    with pytest.raises(TableError, match=rf"row 8: {column} is .*; accepted: a finite number above 0"):
        fit_law("hoffmann", broken)


@pytest.mark.parametrize("column", ["n", "tokens"])
def test_a_column_that_stands_still_is_told(column):
    with pytest.raises(TableError, match=f"{column} is 1e\\+09 in every row"):
        fit_law("hoffmann", table().assign(**{column: 1e9}))
