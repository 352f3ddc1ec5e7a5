"""Laws of pools, mixtures, sampling, reinforcement and width: against their definitions, other fitters and public tables."""

from pathlib import Path

import numpy as np
import pytest

from testbed.analysis.fit import fit_law
from testbed.analysis.laws import LAWS
from testbed.errors import TableError
from testbed.points import fit_columns, map_columns, read_table
from tests.helpers.evaluation import table, value
from tests.helpers.planted import PLANTED, noisy
from tests.helpers.public_tables import needs_shared

OWN_RUNS = Path(__file__).parents[1] / "configs" / "measured" / "quick.points.csv"


def columns(**given):
    return {name: np.atleast_1d(np.asarray(x, float)) for name, x in given.items()}


# --- against their definitions --------------------------------------------------------------------


def pass_by_pass(theta, tokens, unique, pools):
    """The loss after `tokens` from pools (b, tau) mixed in equal parts, each pass in turn."""
    loss, seen, done = None, 0.0, 0
    while seen < tokens:
        b = np.mean([b * 0.5 ** (done / (tau * len(pools))) for b, tau in pools])
        now = min(seen + unique, tokens)
        loss = (now / theta["n_0"]) ** -b + theta["d"] if done == 0 else loss * (now / seen) ** -b
        seen, done = now, done + 1
    return loss


@pytest.mark.parametrize("epochs", [0.4, 1.0, 2.5, 9.0])
def test_pools_are_mixed_and_decay_pass_by_pass(epochs):
    one, two, four = (PLANTED[name].params for name in ("goyal_code", "goyal_pools", "goyal_pools4"))
    seen = {"tokens": 1e8 * epochs, "unique_tokens": 1e8}
    assert value("goyal_code", one, columns(**seen)) == pytest.approx(
        pass_by_pass(one, 1e8 * epochs, 1e8, [(one["b"], one["tau"])]), rel=1e-12
    )
    pools = [(two["b_1"], two["tau_1"]), (two["b_2"], two["tau_2"])]
    for used in ((0,), (1,), (0, 1)):
        flags = {f"pool_{i + 1}": float(i in used) for i in range(2)}
        expected = pass_by_pass(two, 1e8 * epochs, 1e8, [pools[i] for i in used])
        assert value("goyal_pools", two, columns(**seen, **flags)) == pytest.approx(expected, rel=1e-12)
    best = [(four[f"b_{i}"], four[f"tau_{i}"]) for i in (1, 3)]
    flags = {"pool_1": 1, "pool_2": 0, "pool_3": 1, "pool_4": 0}
    expected = pass_by_pass(four, 1e8 * epochs, 1e8, best)
    assert value("goyal_pools4", four, columns(**seen, **flags)) == pytest.approx(expected, rel=1e-12)


def test_a_pool_that_is_neither_in_nor_out_is_refused():
    given = columns(tokens=[1e8, 1e8], unique_tokens=[1e8, 1e8], pool_1=[1, 2], pool_2=[0, 1])
    with pytest.raises(TableError, match=r"pool_1 to pool_2: found \[2\.0, 1\.0\] in row 1; accepted: 1 for each pool"):
        LAWS["goyal_pools"].prepare(given)
    with pytest.raises(TableError, match="tokens and unique_tokens: found values of 0 or less"):
        LAWS["goyal_code"].prepare(columns(tokens=[1e8, 0.0], unique_tokens=[1e8, 1e8]))


def test_steps_and_tokens_to_a_loss_trade_off():
    theta, batch = PLANTED["steps_at_batch"].params, np.geomspace(1e3, 1e8, 7)
    steps = value("steps_at_batch", theta, columns(batch_tokens=batch))
    np.testing.assert_allclose((steps / theta["S_min"] - 1) * (batch * steps / theta["E_min"] - 1), 1, rtol=1e-9)


def test_a_very_large_batch_takes_the_fewest_steps():
    theta = PLANTED["kaplan_ns"].params
    at = {"n": [1e7, 1e9], "steps": [1e4, 1e4], "batch_tokens": [1e20, 1e20]}
    by_batch = value("kaplan_trajectory", theta | {"B": 2.1e8, "b": 4.8}, columns(**at))
    np.testing.assert_allclose(
        value("kaplan_ns", theta, columns(n=at["n"], min_steps=at["steps"])), by_batch, rtol=1e-9
    )


def test_learning_efficiency_saturates_with_model_size():
    theta = PLANTED["reinforcement"].params
    n, x = np.array([1e6, theta["N_0"], 1e15]), np.array([1e18, 1e19])
    losses = np.array([value("reinforcement", theta, columns(n=n, flops=np.full(3, each))) for each in x])
    slopes = -np.diff(np.log10(losses), axis=0)[0]
    np.testing.assert_allclose(slopes, theta["K"] * np.array([0, 0.5, 1]), atol=1e-4)


def test_sampling_and_highest_accuracy_agree_with_their_plain_forms():
    pass_k, flops = PLANTED["pass_at_k"].params, np.geomspace(1e18, 1e22, 4)
    alone = value("pass_at_k", pass_k, columns(flops=flops, samples=np.ones(4)))
    plain = {"A": pass_k["exp_A"], "alpha": pass_k["alpha"]}
    np.testing.assert_allclose(alone, value("krajewski_log", plain, columns(flops=flops)), rtol=1e-12)
    top = PLANTED["krajewski_max"].params | {"Q_random": 0.0}
    logs = value("krajewski_max_log", {k: top[k] for k in ("A", "alpha", "E")}, columns(flops=flops))
    np.testing.assert_allclose(-np.log(value("krajewski_max", top, columns(flops=flops))), logs, rtol=1e-12)
    until = value("passuntil", {"c": 1e4, "alpha": 0.5}, columns(n=[1e6, 1e8]))
    np.testing.assert_allclose(until, np.exp([-10.0, -1.0]), rtol=1e-12)


def test_curves_of_one_size_follow_the_law_without_size():
    planted = PLANTED["tissue_n"]
    alone = {k: v for k, v in planted.params.items() if k not in ("B", "beta")}
    one_size = {**planted.columns, "n": np.full(len(planted.columns["step"]), 1e8)}
    shift = planted.params["B"] * 1e8 ** -planted.params["beta"]
    np.testing.assert_allclose(
        value("tissue_n", planted.params, one_size), value("tissue", alone, planted.columns) + shift, rtol=1e-12
    )
    with pytest.raises(TableError, match="column n: found 0, expected parameters above 0"):
        LAWS["tissue_n"].prepare({**one_size, "n": 0 * one_size["n"]})


# --- against other fitters -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["krajewski_log", "pass_at_k", "repeated_sampling"])
def test_logarithms_are_fitted_by_least_squares_as_by_the_authors(name):
    law = LAWS[name]
    rows = noisy(law, PLANTED[name], 0.05)
    logs = [np.log(rows[c].to_numpy()) for c in law.columns]
    basis = [np.ones(len(rows)), *(-x for x in logs)] + ([logs[0] * logs[1]] if name == "pass_at_k" else [])
    expected = np.linalg.lstsq(np.stack(basis, axis=1), np.log(rows[law.response].to_numpy()), rcond=None)[0]
    fitted = list(fit_law(name, rows, loss="ls", n_boot=0).params)
    assert [np.log(fitted[0]), *fitted[1:]] == pytest.approx(list(expected), rel=1e-6)


# --- against public tables --------------------------------------------------------------------------


@pytest.mark.parametrize("known", ["step", "batch_tokens"])
def test_steps_of_ones_own_runs_are_known(known):
    """The testbed's own tables have no column `steps`: it is the step of the row, or the tokens over the batch."""
    points = read_table(OWN_RUNS)[["run", "n_params_non_embedding", "tokens", "step", "batch_tokens"]]
    points = points.drop(columns="step") if known == "batch_tokens" else points
    mapping = map_columns(points, ("steps", "tokens"), {}, "the table")
    expected = points["tokens"] / 512
    np.testing.assert_allclose(fit_columns(points, mapping, "the table")["steps"], expected)


@needs_shared
def test_repeated_sampling_of_seven_models_is_a_power_law():
    """The exponents that arXiv:2502.17578's released table gives by least squares of logarithms."""
    rows = table("monkeys_pass_at_k/mean_pass.csv").rename(columns={"k": "samples"})
    rows = rows[rows["neg_log_pass"] > 0]
    found: dict[str, list[float]] = {}
    for (benchmark, _), part in rows.groupby(["benchmark", "model"]):
        if len(part) > 10:
            fit = fit_law("repeated_sampling", part[["samples", "neg_log_pass"]], loss="ls", n_boot=0)
            found.setdefault(benchmark, []).append(fit.theta["b"])
    assert (min(found["MATH"]), max(found["MATH"])) == pytest.approx((0.40, 0.62), abs=0.005)
    assert (min(found["GSM8K"]), max(found["GSM8K"])) == pytest.approx((0.22, 0.67), abs=0.006)


@needs_shared
@pytest.mark.parametrize("domain", [1, 4])
def test_mixing_law_predicts_unseen_mixtures_of_five_domains(domain):
    runs = table("data_mixing/runs.csv")
    runs = runs[runs["model"] == "70M"].rename(columns={f"loss_{domain}": "loss"})
    train, test = runs[runs["published_split"] == "train"], runs[runs["published_split"] != "train"]
    fit = fit_law("mixing5", train, n_boot=0)
    error = np.abs(fit.predict(test) / test["loss"] - 1).mean()
    assert error < 0.01
    assert error < 0.5 * np.abs(train["loss"].mean() / test["loss"] - 1).mean()


@needs_shared
@pytest.mark.parametrize(("task", "predicted"), [("arc_easy", (0.691, 0.719)), ("sciq", (0.917, 0.930))])
def test_accuracies_of_pythia_are_fitted_by_the_authors_objective(task, predicted):
    """Six models to 2.8B fitted; the two larger ones do worse, since all saw the same tokens."""
    rows = table("pythia_downstream/checkpoints.csv")
    rows = rows[(rows["shots"] == 0) & (rows["deduped"] == 0) & (rows["step"] == rows["step"].max())]
    rows = rows.assign(neg_log_accuracy=-np.log((rows[f"acc_{task}"] - 0.25) / 0.75), flops=rows["flops_6nd"])
    small, large = rows[rows["n_params"] < 5e9], rows[rows["n_params"] > 5e9]
    fit = fit_law("krajewski_log", small, loss="ls", n_boot=0)
    slope, intercept = np.polyfit(np.log(small["flops"]), np.log(small["neg_log_accuracy"]), 1)
    assert fit.theta["alpha"] == pytest.approx(-slope, rel=1e-8)
    assert np.log(fit.theta["A"]) == pytest.approx(intercept, rel=1e-8)
    accuracy = 0.25 + 0.75 * np.exp(-fit.predict(large))
    np.testing.assert_allclose(accuracy, predicted, atol=0.005)
    assert (accuracy > large[f"acc_{task}"]).all()
