"""Choosing among laws: what is kept, what is dropped and why, and what ways of counting move."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.fit import fit_law
from testbed.analysis.fit.comparison import compare, convention_table
from testbed.analysis.fit.comparison.compare import LEAST_CUTS
from testbed.analysis.fit.heldout.rolling import cuts_of, k_fold, kappa, predict_held_out, scores
from testbed.analysis.laws import LAWS
from testbed.analysis.laws.hoffmann import Hoffmann
from testbed.analysis.laws.kaplan import Kaplan
from testbed.analysis.laws.law import Law, real
from testbed.errors import ConfigError, TableError
from tests.helpers.public_tables import SHARED, needs_shared


def runs(count=90, seed=0, noise=0.003, law="hoffmann", n=(2e7, 5e9), ratio=(5.0, 400.0), **theta):
    """Independent runs of a law at random sizes and D/N."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(*np.log(n), count))
    columns = {"n": sizes, "tokens": sizes * np.exp(rng.uniform(*np.log(ratio), count))}
    truth = {name: np.array([[value]]) for name, value in (theta or HOFFMANN).items()}
    loss = LAWS[law].value(truth, columns)[0] * np.exp(noise * rng.normal(size=count))
    return pd.DataFrame({"run": [f"r{i}" for i in range(count)], **columns, "loss": loss})


HOFFMANN = {"A": 480.0, "B": 2100.0, "E": 1.8, "alpha": 0.35, "beta": 0.37}
TARGET = {"n": 3e10, "tokens": 6e11}


class Broken(Hoffmann):
    """A law that overflows."""

    name = "broken"

    def value(self, theta, columns):
        return super().value(theta, columns) * np.inf


class Large(Law):
    """Kaplan's law with two parameters that do next to nothing."""

    name = "large"
    parameters = (*Kaplan.parameters, real("p", (-0.1, 0.1)), real("q", (-0.1, 0.1)))
    columns = Kaplan.columns

    def value(self, theta, columns):
        size, tokens = np.log(columns["n"] / 1e9), np.log(columns["tokens"] / 1e10)
        bend = 1e-3 * (theta["p"] * size * tokens + theta["q"] * size**2)
        return Kaplan().value(theta, columns) * (1 + bend)


# --- the rolling origin -----------------------------------------------------------------------


def test_cuts_are_by_run_and_hold_out_larger_runs_of_the_fitted_kind():
    table = runs(60).assign(run=[f"r{i // 3}" for i in range(60)])
    fit = fit_law("hoffmann", table, n_boot=0)
    compute = np.log10(6 * fit.points["n"] * fit.points["tokens"]).to_numpy()
    ratio = np.log10(fit.points["tokens"] / fit.points["n"]).to_numpy()
    cuts = cuts_of(fit, 5, None)
    assert len(cuts) == 5
    for cut in cuts:
        assert not set(table["run"][cut.fitted]) & set(table["run"][cut.held_out])
        assert compute[cut.held_out].min() > compute[cut.fitted].max() == pytest.approx(cut.at)
        assert ratio[cut.held_out].max() <= ratio[cut.fitted].max() + 0.3
        assert cut.fitted.sum() >= 14
    assert [cut.at for cut in cuts] == sorted(cut.at for cut in cuts)


def test_cuts_match_the_distance_of_the_target():
    fit = fit_law("hoffmann", runs(), n_boot=0)
    every = cuts_of(fit, 5, None)[0]
    near = cuts_of(fit, 5, {"n": 1e10, "tokens": 2.5e12})[0]
    wanted = np.log10(6 * 2.5e22) - np.log10(6 * (fit.points["n"] * fit.points["tokens"]).max())
    gap = near.gap[near.held_out]
    assert 0.3 < wanted < 1
    assert wanted / 2 <= gap.min() <= gap.max() <= 2 * wanted
    assert every.held_out.sum() > near.held_out.sum() >= 3


def test_too_few_rows_allow_no_cut():
    assert cuts_of(fit_law("hoffmann", runs(14), n_boot=0), 5, None) == []


def test_held_out_rows_are_those_of_a_fit_to_the_smaller_runs():
    fit = fit_law("hoffmann", runs(), n_boot=0)
    cut = cuts_of(fit, 3, None)[1]
    rows = predict_held_out(fit, cut, 0.9, "nats")
    small = fit_law("hoffmann", fit.points[cut.fitted], n_boot=0)
    large = fit.points[cut.held_out]
    assert np.exp(rows["predicted"]).to_numpy() == pytest.approx(small.predict(large[["n", "tokens"]]), rel=1e-9)
    assert scores(rows, 0.9)["error"] == pytest.approx(
        np.abs(np.log(large["loss"].to_numpy()) - rows["predicted"]).mean()
    )


def test_scores_and_kappa_by_hand():
    rows = pd.DataFrame(
        {"observed": [1.0, 2.0], "predicted": [1.5, 2.0], "kriged": [1.2, 2.1], "low": [1.1, 2.0], "high": [1.3, 2.2]}
    )
    found = scores(rows, 0.9)
    assert found == pytest.approx({"error": 0.25, "kriged_error": 0.15, "score": 0.2 + 20 * 0.1 / 2})
    assert kappa([rows], 0.9) == pytest.approx(2.0)
    assert kappa([rows], 0.5) == pytest.approx(1.0)
    assert np.isnan(kappa([], 0.9))


def test_k_fold_leaves_out_whole_runs():
    table = runs(60, noise=0.0).assign(run=[f"r{i // 5}" for i in range(60)])
    own = np.repeat(0.01 * np.random.default_rng(0).normal(size=12), 5)
    fit = fit_law("hoffmann", table.assign(loss=table["loss"] * np.exp(own)), n_boot=0)
    assert k_fold(fit, 0) > 1.05 * np.abs(fit.resid).mean()
    assert k_fold(fit, 0) == k_fold(fit, 0)


# --- the comparison ---------------------------------------------------------------------------


@pytest.mark.slow
def test_the_default_stays_and_the_target_is_predicted():
    found = compare(["hoffmann", "hoffmann_tied", "kaplan_nd"], runs(), TARGET, n_boot=60)
    assert found.recommended == "hoffmann"
    assert found.dropped == {}
    assert list(found.table["law"]) == ["hoffmann", "hoffmann_tied", "kaplan_nd"]
    row = found.table.set_index("law")
    assert row.loc["hoffmann", "verdict"] == "recommended"
    assert row.loc["hoffmann", "wins"] == 0
    assert row.loc["kaplan_nd", "delta_aicc"] > 100
    assert row.loc["kaplan_nd", "rolling"] > 3 * row.loc["hoffmann", "rolling"]
    assert row.loc["hoffmann", "delta_aicc"] == 0
    assert (row["worst_cut"] >= row["rolling"]).all()
    assert set(found.cuts["law"]) == set(row.index)
    by_cut = found.cuts.groupby("law")["error"].mean()
    assert row["rolling"].to_dict() == pytest.approx(by_cut[row.index].to_dict())
    assert found.target is not None
    truth = 1.8 + 480 * 3e10**-0.35 + 2100 * 6e11**-0.37
    assert found.target.low < truth < found.target.high
    assert found.target.predicted == pytest.approx(truth, rel=0.02)
    plain = fit_law("hoffmann", runs(), n_boot=0).predict(**TARGET)[0]
    assert row.loc["hoffmann", "predicted"] == pytest.approx(plain)


def test_a_law_that_wins_every_cut_takes_the_place():
    table = runs(law="kaplan", A=2e8, B=4e10, E=1.5, a=0.9, b=0.3, noise=0.001)
    found = compare(["hoffmann", "kaplan"], table, n_boot=60)
    assert found.recommended == "kaplan"
    assert found.table.set_index("law").loc["kaplan", "wins"] == found.cuts["cut"].nunique() >= LEAST_CUTS
    assert "better than hoffmann at each of 5 cuts" in found.reason


@pytest.mark.slow
def test_a_law_of_too_many_parameters_does_not_take_the_place():
    table = runs(160, law="kaplan", A=2e8, B=4e10, E=1.5, a=0.9, b=0.3, noise=0.001)
    found = compare(["hoffmann", Large()], table, cuts=LEAST_CUTS, n_boot=0)
    assert found.recommended == "hoffmann"
    assert found.table.set_index("law").loc["large", "wins"] == found.cuts["cut"].nunique()
    assert found.dropped == {}


def test_one_cut_is_too_few_to_change_the_law():
    table = runs(law="kaplan", A=2e8, B=4e10, E=1.5, a=0.9, b=0.3, noise=0.001)
    found = compare(["hoffmann", "kaplan"], table, cuts=2, n_boot=60)
    assert found.recommended == "hoffmann"
    assert "allows 2 cuts" in found.reason


@pytest.mark.slow
def test_a_better_fit_alone_changes_nothing():
    """Small runs that wobble about the law: a freer law follows them, and predicts the larger ones worse."""
    table = runs(120, seed=4)
    compute = table["n"] * table["tokens"]
    small = compute < np.quantile(compute, 0.35)
    table.loc[small, "loss"] *= 1 + 0.05 * np.sin(3 * np.log10(compute[small]))
    found = compare(["hoffmann", "coupled"], table, n_boot=0)
    row = found.table.set_index("law")
    assert row.loc["coupled", "delta_aicc"] < 0
    assert row.loc["coupled", "rolling"] > row.loc["hoffmann", "rolling"]
    assert found.recommended == "hoffmann"
    (warning,) = (warning for warning in found.warnings if warning.code == "law-selection")
    assert (warning.evidence["aicc"], warning.evidence["rolling_origin"]) == ("coupled", "hoffmann")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.slow
def test_laws_that_cannot_be_fitted_are_rows_with_a_reason():
    found = compare(["muennighoff", "hoffmann", Broken(), "henighan_c"], runs(), TARGET, n_boot=60)
    assert found.default == "muennighoff"
    assert found.recommended == "hoffmann"
    assert found.dropped["muennighoff"].startswith("cannot be fitted: the table: no column for unique_tokens")
    assert "the table has" not in found.dropped["muennighoff"]
    assert "broken" in found.dropped
    row = found.table.set_index("law")
    assert row.loc["muennighoff", "verdict"] == "not fitted"
    assert np.isnan(row.loc["muennighoff", "rolling"])
    assert row.loc["henighan_c", "predicted"] > 0  # its FLOPs come from n and tokens, in the table and the target
    assert "muennighoff is not identified" in found.reason
    json.loads(json.dumps(found.to_dict(), allow_nan=False))


@pytest.mark.slow
def test_laws_that_the_table_does_not_determine_are_dropped():
    found = compare(["hoffmann", "kaplan_d"], runs(40, n=(1e8, 4e8)), TARGET, n_boot=30)
    assert "converged in only" in found.dropped["hoffmann"]
    assert found.recommended == "kaplan_d"
    assert "hoffmann is not identified" in found.reason
    none = compare(["hoffmann"], runs(40, n=(1e8, 4e8)), TARGET, n_boot=30)
    assert none.recommended is None
    assert "not determine their parameters" in none.sentences()[0]
    assert none.target is not None
    assert none.target.law == "hoffmann"


def test_a_larger_law_than_the_default_needs_runs_for_it():
    found = compare(["hoffmann", "coupled"], runs(22, noise=1e-4), n_boot=40)
    assert "6 parameters for 22 runs" in found.dropped["coupled"]


def test_intervals_that_failed_before_are_told():
    table = runs(120)
    compute = (table["n"] * table["tokens"]).to_numpy()
    last = compute > np.quantile(compute, 0.55)
    table.loc[last, "loss"] *= (compute[last] / compute[last].min()) ** 0.12
    found = compare(["hoffmann"], table, n_boot=40)
    (warning,) = found.warnings
    assert warning.code == "failed-before"
    assert warning.evidence["kappa"] == found.table["kappa"][0] > 1.5
    assert compare(["hoffmann"], runs(120), n_boot=40).warnings == ()


@pytest.mark.slow
def test_laws_that_disagree_widen_the_interval():
    table = runs(90, n=(2e7, 5e8), ratio=(20.0, 200.0))
    alone = compare(["hoffmann"], table, {"n": 1e13, "tokens": 1e15}, n_boot=60).target
    both = compare(["hoffmann", "kaplan_nd"], table, {"n": 1e13, "tokens": 1e15}, n_boot=60)
    assert alone is not None
    assert both.target is not None
    assert not alone.widened
    assert alone.spread == 0
    assert both.dropped == {}
    assert both.target.widened
    places = np.log(both.table["predicted"])
    assert both.target.spread == pytest.approx(places.std(ddof=1))
    assert both.target.median == pytest.approx(both.table["predicted"].median())
    ratio = np.log(both.target.high / both.target.low) / np.log(alone.high / alone.low)
    assert ratio == pytest.approx(np.hypot(both.target.spread, alone.sd_kriging) / alone.sd_kriging)
    assert "it was widened" in both.sentences()[1]
    assert "far-target" in {warning.code for warning in both.warnings}


def test_laws_of_linear_residuals():
    rng = np.random.default_rng(0)
    loss = np.linspace(2, 4, 60)
    table = pd.DataFrame({"loss": loss, "error": 0.9 - 2 * np.exp(-1.2 * loss) + 1e-3 * rng.normal(size=60)})
    found = compare(["gadre_error"], table, {"loss": 1.9}, n_boot=40)
    assert found.target is not None
    assert not found.target.relative
    assert found.target.low < 0.9 - 2 * np.exp(-1.2 * 1.9) < found.target.high


def test_bad_arguments():
    with pytest.raises(
        ConfigError, match="laws: hoffmann gives loss and gadre_error error; accepted: laws of one response"
    ):
        compare(["hoffmann", "gadre_error"], runs())
    with pytest.raises(ConfigError, match="laws: found none"):
        compare([], runs())
    with pytest.raises(ConfigError, match="cuts: found 0"):
        compare(["hoffmann"], runs(), cuts=0)
    with pytest.raises(TableError, match="muennighoff cannot be fitted"):
        compare(["muennighoff"], runs())
    with pytest.raises(TableError, match="the targets: no column for tokens"):
        compare(["hoffmann"], runs(), {"n": 1e10}, n_boot=0)


def test_a_comparison_repeats_itself():
    first, second = (compare(["hoffmann", "hoffmann_tied"], runs(), TARGET, n_boot=40, seed=1) for _ in range(2))
    assert first.to_dict() == second.to_dict()


# --- conventions ------------------------------------------------------------------------------


def counted(count=80, seed=0):
    """Runs of a law in N without embeddings, with the total count and FLOPs of attention and head beside it."""
    table = runs(count, seed, noise=1e-4, n=(1e7, 3e9)).rename(columns={"n": "n_params_non_embedding"})
    n = table["n_params_non_embedding"]
    total = n + 5e4 * np.sqrt(n / 1e3)
    return table.assign(n_params_total=total, flops=6 * (n + 0.7 * (total - n) + 2e6) * table["tokens"])


def test_each_convention_is_a_fit_of_its_own():
    table = counted()
    found = convention_table("hoffmann", table)
    assert list(zip(found["n"], found["flops"], strict=True)) == [
        ("n_params_non_embedding", "6ND"),
        ("n_params_non_embedding", "flops"),
        ("n_params_total", "6ND"),
        ("n_params_total", "flops"),
    ]
    assert (found["budget"] == table["flops"].max()).all()
    for row in found.to_dict("records"):
        fit = fit_law("hoffmann", table, columns={"n": row["n"]}, n_boot=0)
        assert (row["alpha"], row["objective"]) == pytest.approx((fit.theta["alpha"], fit.objective))
    approximate = found[found["flops"] == "6ND"]
    for row in approximate.to_dict("records"):
        fit = fit_law("hoffmann", table, columns={"n": row["n"]}, n_boot=0)
        best = fit.frontier(row["budget"]).iloc[0]
        assert (row["n_opt"], row["tokens_opt"]) == pytest.approx((best["n"], best["tokens"]), rel=1e-3)
        share = fit.theta["beta"] / (fit.theta["alpha"] + fit.theta["beta"])
        assert row["exponent_n"] == pytest.approx(share, rel=1e-3)


def test_exact_flops_move_the_optimum_as_they_cost():
    """With exact FLOPs the optimum is where no run of the same FLOPs is better."""
    table = counted()
    row = convention_table("hoffmann", table, flops=1e19).iloc[1]
    fit = fit_law("hoffmann", table, n_boot=0)
    n = row["n_opt"] * np.array([0.8, 0.9, 1.0, 1.1, 1.25])
    per_token = 6 * (n + 0.7 * 5e4 * np.sqrt(n / 1e3) + 2e6)
    loss = fit.predict(n=n, tokens=1e19 / per_token)
    assert np.argmin(loss) == 2
    assert row["tokens_opt"] == pytest.approx(1e19 / per_token[2], rel=0.01)
    assert row["loss_opt"] == pytest.approx(loss[2], rel=1e-3)


def test_a_law_of_compute_is_fitted_to_each_way_of_counting_it():
    table = counted()
    found = convention_table("kaplan_c", table)
    assert list(zip(found["n"], found["flops"], strict=True)) == [
        ("n_params_non_embedding", "6ND"),
        ("n_params_total", "6ND"),
        ("", "flops"),
    ]
    for row in found.to_dict("records"):
        flops = table["flops"] if row["flops"] == "flops" else 6 * table[row["n"]] * table["tokens"]
        fit = fit_law("kaplan_c", table.assign(flops=flops), n_boot=0)
        assert row["alpha"] == pytest.approx(fit.theta["alpha"])
        assert row["loss_opt"] == pytest.approx(fit.predict(flops=row["budget"])[0])


def test_a_table_of_one_convention_has_one_row():
    table = runs().assign(flops=lambda t: 6 * t["n"] * t["tokens"])
    assert len(convention_table("hoffmann", table)) == 1
    assert list(convention_table("kaplan_n", table[["n", "loss"]]).columns) == ["n", "flops", "objective", "alpha"]


def test_conventions_of_a_law_of_neither():
    with pytest.raises(ConfigError, match="kaplan_d has columns tokens; accepted: a law of n or of flops"):
        convention_table("kaplan_d", runs())
    with pytest.raises(ConfigError, match="flops: found -1"):
        convention_table("hoffmann", runs(), flops=-1)


# --- public tables ----------------------------------------------------------------------------


@needs_shared
@pytest.mark.slow
def test_a_better_fit_of_epochs_runs_is_not_recommended():
    """The coupled form is 25 better than Hoffmann's by AICc on arXiv:2404.10102's 240 runs, and predicts them worse."""
    table = pd.read_csv(SHARED / "data" / "chinchilla_epoch" / "runs.csv").query("used_in_published_fit == 1")
    found = compare(["hoffmann", "coupled"], table, {"n": 7e10, "tokens": 1.4e12}, n_boot=100)
    row = found.table.set_index("law")
    assert row.loc["coupled", "delta_aicc"] == pytest.approx(-25.5, abs=0.1)
    assert row.loc["coupled", "rolling"] > 1.1 * row.loc["hoffmann", "rolling"]
    assert found.dropped == {}
    assert found.recommended == "hoffmann"
    assert "law-selection" in {warning.code for warning in found.warnings}
    assert found.target is not None
    assert found.target.low < 1.94 < found.target.high  # Chinchilla, arXiv:2203.15556


@needs_shared
def test_what_counting_embeddings_moves_on_gemstones():
    table = pd.read_csv(SHARED / "data" / "gemstones" / "checkpoints.csv").query("in_fit_cool_end == 1")
    found = convention_table("hoffmann", table, columns={"n": "n_params"}).set_index("n")
    assert found["alpha"].to_dict() == pytest.approx({"n_params": 0.300, "n_params_no_embed": 0.280}, abs=1e-3)
    assert found["beta"].to_dict() == pytest.approx({"n_params": 0.580, "n_params_no_embed": 0.627}, abs=1e-3)
    assert found["tokens_per_param"].is_monotonic_increasing
