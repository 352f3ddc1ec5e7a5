"""Every finding: a made table that calls for it, a clean one on which all are silent, and the public tables' own figures."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from testbed.analysis.fit import fit_law
from testbed.analysis.fit.diagnostics import Finding, doubts, far_target, isoflop_parabola, rounded_params
from testbed.analysis.fit.diagnostics.identification import condition
from testbed.analysis.fit.diagnostics.rank_tests import kruskal, spearman, two_sided
from testbed.analysis.fit.diagnostics.refits import Refits
from testbed.analysis.fit.search import Search
from testbed.analysis.laws import LAWS
from testbed.errors import ConfigError, TableError
from tests.helpers.planted.design import noisy
from tests.helpers.planted.families import PLANTED
from tests.helpers.public_tables import SHARED, needs_shared

TRUTH = {"A": 480.0, "B": 2100.0, "E": 1.8, "alpha": 0.35, "beta": 0.37}


def runs(count=90, seed=0, noise=0.003, ratio=(12.0, 400.0), n=(2e7, 5e9), **truth):
    """Independent runs of Hoffmann's law at random sizes and D/N, with the count of N spelt out."""
    rng = np.random.default_rng(seed)
    at = TRUTH | truth
    sizes = np.exp(rng.uniform(*np.log(n), count))
    tokens = sizes * np.exp(rng.uniform(*np.log(ratio), count))
    loss = at["E"] + at["A"] * sizes ** -at["alpha"] + at["B"] * tokens ** -at["beta"]
    return pd.DataFrame(
        {
            "run": [f"r{i}" for i in range(count)],
            "n_params_non_embedding": sizes,
            "tokens": tokens,
            "loss": loss * np.exp(noise * rng.normal(size=count)),
        }
    )


def found(table, law="hoffmann", raw=True, n_boot=200, **options) -> dict[str, Finding]:
    fit = fit_law(law, table, n_boot=n_boot, **options)
    return {finding.code: finding for finding in fit.diagnostics(table if raw is True else raw)}


# --- silence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_clean_table_has_nothing_to_confess(seed):
    fit = fit_law("hoffmann", runs(seed=seed), n_boot=200)
    assert fit.diagnostics(runs(seed=seed)) == ()
    assert fit.identified
    assert fit.unidentified == ()


_HARD = {"farseer", "bnsl2", "multi_power"}  # slow, and the last one's scale C is weakly determined by any schedule


@pytest.mark.parametrize("name", sorted(set(PLANTED) - _HARD))
@pytest.mark.slow
def test_clean_planted_tables_of_all_laws_are_identified(name):
    fit = fit_law(LAWS[name], noisy(LAWS[name], PLANTED[name], 0.002, seed=1), n_boot=40)
    assert doubts(fit) == []
    # Planted losses are not all in nats, and the first rows of tissue's few curves alone show its alpha.
    accepted = {"unit", "outlier-sensitivity"} if name == "tissue" else {"unit"}
    assert {finding.code for finding in fit.diagnostics()} <= accepted


@pytest.mark.slow
def test_few_clean_tables_are_accused():
    """Each finding may be wrong now and then, all of them together on at most a table in ten."""
    accused = [bool(found(noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.003, seed), raw=None)) for seed in range(50)]
    assert np.mean(accused) < 0.1
    few = [bool(set(found(runs(20, seed, 0.002))) - {"unidentified"}) for seed in range(30)]
    assert np.mean(few) < 0.2


@pytest.mark.parametrize("loss", ["lad", "ls", "huber-likelihood"])
@pytest.mark.slow
def test_a_clean_table_has_nothing_to_confess_under_other_losses(loss):
    assert found(runs(), loss=loss) == {}


def test_without_resamples_the_standard_errors_are_of_first_order():
    table = runs()
    drawn, none = (Refits.of(fit_law("hoffmann", table, n_boot=n)) for n in (400, 0))
    assert none.coordinate_errors[none.watched] == pytest.approx(drawn.coordinate_errors[drawn.watched], rel=0.35)
    assert found(table, n_boot=0) == {}


def test_findings_are_json_and_say_what_to_do():
    table = runs(8)
    for finding in found(table).values():
        assert json.loads(json.dumps(finding.to_dict(), allow_nan=False))["code"] == finding.code
        assert finding.message.endswith(".")
        assert len(finding.message) > 60


# --- the search -------------------------------------------------------------------------------


def test_a_search_that_did_not_end():
    fit = replace(fit_law("hoffmann", runs(), n_boot=20), converged=False)
    assert [finding.code for finding in fit.diagnostics()] == ["not-converged"]


def test_a_narrow_column():
    fit = fit_law("hoffmann", runs(n=(1e8, 5e8), noise=1e-4), n_boot=100)
    doubt = next(doubt for doubt in doubts(fit) if doubt.trigger == "range")
    assert doubt.parameters == ("A", "alpha")
    assert doubt.value < 1
    assert not fit.identified
    assert "n spans only 0.7 decades" in found(runs(n=(1e8, 5e8), noise=1e-4))["unidentified"].message


def test_effects_that_cannot_be_told_apart():
    table = runs(n=(1e7, 1e9), ratio=(20.0, 20.001), noise=1e-5)  # N and D proportional
    fit = fit_law("hoffmann", table, n_boot=40)
    assert condition(fit) > 1e3
    assert "condition" in {doubt.trigger for doubt in doubts(fit)}
    assert set(fit.unidentified) >= {"A", "B", "alpha", "beta"}


def test_a_wide_interval():
    triggers = {doubt.trigger: doubt for doubt in doubts(fit_law("hoffmann", runs(24, noise=0.03), n_boot=200))}
    assert triggers["interval"].value > 2
    assert triggers["interval"].parameters[0] in ("alpha", "beta")


def test_an_exponent_at_the_edge():
    table = runs(noise=1e-4)
    table["loss"] = 2 + 0.3 * (table["tokens"] / 1e8) ** -0.4 + (table["n_params_non_embedding"] / 2e7) ** -12.0
    triggers = {doubt.trigger: doubt for doubt in doubts(fit_law("hoffmann", table, n_boot=40))}
    assert triggers["edge"].parameters == ("alpha",)
    assert triggers["edge"].value == 6.0


def test_resamples_and_searches_that_disagree():
    fit = fit_law("hoffmann", runs(), n_boot=40)
    lost = replace(fit, resamples_converged=np.arange(40) < 30, search=Search(36, 2, 9))
    assert {doubt.trigger: doubt.value for doubt in doubts(lost)} == {"resamples": 0.75, "optima": 9.0}
    assert lost.unidentified == tuple(TRUTH)


def test_an_irreducible_loss_that_the_data_do_not_show():
    finding = found(runs(E=0.0, alpha=0.1, A=20.0, seed=3))["E-at-boundary"]
    assert finding.evidence["E"] < 0.1
    assert "use a law without E" in finding.message


def test_a_term_that_the_data_do_not_show():
    finding = found(runs(B=0.0, seed=2))["term-at-zero"]
    assert finding.evidence["share_of_resamples_at_0"] > 0.05
    assert "beta means nothing" in finding.message


# --- the rows ---------------------------------------------------------------------------------


def test_a_few_rows_that_decide():
    table = with_few_tokens(runs(100), [0, 1])
    table.loc[[0, 1], "loss"] *= 1.2
    finding = found(table)["outlier-sensitivity"]
    assert finding.evidence["rows_left_out"] == 2
    assert finding.evidence["beta, without the highest losses"] == pytest.approx(TRUTH["beta"], rel=0.05)
    assert finding.evidence["beta"] > 0.4
    assert "outlier-sensitivity" not in found(with_few_tokens(runs(100), [0, 1]))


def with_few_tokens(table, rows):
    """Some runs of 300 times fewer tokens, on the law."""
    n, tokens = table["n_params_non_embedding"], table["tokens"].mask(table.index.isin(rows), table["tokens"] / 300)
    ratio = (1.8 + 480 * n**-0.35 + 2100 * tokens**-0.37) / (1.8 + 480 * n**-0.35 + 2100 * table["tokens"] ** -0.37)
    return table.assign(tokens=tokens, loss=table["loss"] * ratio)


def test_a_width_that_decides():
    table = runs(100)
    table.loc[table["tokens"].nsmallest(20).index[::2], "loss"] *= 1.03
    evidence = found(table)["delta-sensitivity"].evidence
    moved = abs(evidence["alpha, least squares"] - evidence["alpha"])
    assert moved > 3 * abs(evidence["alpha, delta 0.0001"] - evidence["alpha"])
    assert evidence["alpha moves, least squares"] > 1


def test_a_width_that_decides_where_squares_were_minimised():
    table = runs(100)
    table.loc[table["loss"].nlargest(2).index, "loss"] *= 1.6
    assert "huber" in found(table, loss="ls")["delta-sensitivity"].message


def test_small_runs_of_another_law():
    table = runs(120)
    compute = table["n_params_non_embedding"] * table["tokens"]
    small = compute.rank(pct=True) < 0.25
    table.loc[small, "loss"] *= (compute[small].max() / compute[small]) ** 0.1
    finding = found(table)["selection-sensitivity"]
    assert "quarter of least compute" in finding.message
    assert finding.evidence["beta, without the quarter of least compute"] == pytest.approx(TRUTH["beta"], rel=0.1)


def test_runs_of_few_tokens_that_follow_another_law():
    table = runs(150, ratio=(1.0, 400.0))
    ratio = table["tokens"] / table["n_params_non_embedding"]
    table.loc[ratio < 10, "loss"] *= (10 / ratio[ratio < 10]) ** 0.2
    finding = found(table)["under-trained"]
    assert finding.evidence["rows_under_trained"] == (ratio < 10).sum()
    assert "under-trained" not in found(runs(150, ratio=(1.0, 400.0)))


def test_runs_of_few_tokens_with_nothing_to_hold_them_against():
    finding = found(runs(60, ratio=(0.5, 10.5)))["under-trained"]
    assert "too few are left" in finding.message


def test_one_run_that_decides():
    rng = np.random.default_rng(0)
    tables = [runs(12, seed=1).assign(run=[f"r{i}"] * 12) for i in range(12)]
    table = pd.concat([t.assign(loss=t["loss"] * np.exp(1e-3 * rng.normal())) for t in tables], ignore_index=True)
    odd = table["run"] == "r7"
    table.loc[odd, "tokens"] *= np.linspace(0.01, 1, 12)
    table.loc[odd, "loss"] *= np.linspace(1.9, 1, 12)
    finding = found(table)["influential-run"]
    assert finding.evidence["run"] == "r7"


# --- the residuals ----------------------------------------------------------------------------


def test_scatter_that_changes():
    table = runs(150, noise=0.0)
    size = (np.log(table["n_params_non_embedding"]) - np.log(2e7)) / np.log(250)
    table["loss"] *= np.exp(0.02 * np.exp(-3 * size) * np.random.default_rng(1).normal(size=150))
    finding = found(table)["uneven-scatter"]
    assert finding.evidence["spread_low"] > 2 * finding.evidence["spread_high"]


def test_a_law_that_does_not_bend_as_the_data_do():
    table = runs(150)
    table["loss"] *= 1 + 0.02 * np.sin(2.5 * np.log(table["n_params_non_embedding"]))
    finding = found(table)["residual-trend"]
    assert finding.evidence["axis"] == "n"
    assert finding.evidence["chance"] < 1e-3


def test_the_largest_runs_on_one_side():
    table = runs(120)
    compute = table["n_params_non_embedding"] * table["tokens"]
    table.loc[compute.nlargest(12).index, "loss"] *= 1.02
    finding = found(table)["biased-at-the-largest"]
    assert finding.evidence["median_residual"] > 0.01
    assert "above the law" in finding.message


def test_misfit_beyond_the_noise_of_seeds():
    once = runs(50, noise=0.0)
    once["loss"] *= 1 + 0.01 * np.sin(1.7 * np.log(once["tokens"]) + np.log(once["n_params_non_embedding"]))
    rng = np.random.default_rng(0)
    seeds = [
        once.assign(run=once["run"] + f"s{s}", loss=once["loss"] * np.exp(1e-3 * rng.normal(size=50))) for s in range(3)
    ]
    finding = found(pd.concat(seeds, ignore_index=True))["misfit-beyond-noise"]
    assert finding.evidence["noise_sd"] == pytest.approx(1e-3, rel=0.2)
    assert finding.evidence["misfit_sd"] > 3e-3
    clean = runs(50, noise=0.0)
    seeds = [
        clean.assign(run=clean["run"] + f"s{s}", loss=clean["loss"] * np.exp(1e-3 * rng.normal(size=50)))
        for s in range(3)
    ]
    assert "misfit-beyond-noise" not in found(pd.concat(seeds, ignore_index=True))
    assert "misfit-beyond-noise" not in found(pd.concat(seeds, ignore_index=True), replicates="mean")


# --- the table --------------------------------------------------------------------------------


def test_few_runs():
    table = pd.concat([runs(10, seed=s).assign(run=[f"r{i}" for i in range(10)]) for s in range(6)], ignore_index=True)
    assert found(table)["few-runs"].evidence["runs"] == 10


def test_points_of_one_run():
    table = runs(60).assign(run=[f"r{i // 5}" for i in range(60)])
    finding = found(table)["checkpoints-as-runs"]
    assert (finding.evidence["points"], finding.evidence["runs"]) == (60, 12)
    assert "whole runs were resampled" in finding.message


def test_checkpoints_that_nobody_named():
    sizes, shares = np.geomspace(3e7, 3e9, 12), np.geomspace(0.1, 1, 6)
    n, tokens = np.repeat(sizes, 6), (60 * sizes[:, None] * shares).ravel()
    own = np.repeat(0.01 * np.random.default_rng(0).normal(size=12), 6)
    loss = (1.8 + 480 * n**-0.35 + 2100 * tokens**-0.37) * np.exp(own)
    table = pd.DataFrame({"n_params_non_embedding": n, "tokens": tokens, "loss": loss})
    finding = found(table)["checkpoints-as-runs"]
    assert finding.evidence["in_order"] == 72
    assert finding.evidence["within_size_correlation"] > 0.3
    assert "checkpoints-as-runs" not in found(table.sample(frac=1, random_state=0))
    assert "checkpoints-as-runs" not in found(table.assign(run=[f"r{i}" for i in range(72)]))


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"phase": ["stable"] * 10 + ["annealed"] * 80}, 10),
        ({"frac_of_run": [0.5] * 7 + [1.0] * 83}, 7),
        ({"is_final": [False] * 3 + [True] * 87}, 3),
        ({"step": [50] * 4 + [100] * 86, "total_steps": [100] * 90}, 4),
        ({"lr": [1e-3] * 6 + [1e-5] * 84, "peak_lr": [1e-3] * 90}, 6),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_losses_from_the_middle_of_a_schedule(columns, rows):
    table = runs().assign(**columns)
    assert found(table)["mid-schedule"].evidence["rows"] == rows
    assert "mid-schedule" not in found(table, raw=None)
    assert "mid-schedule" not in found(table.iloc[10:].reset_index(drop=True))


def test_a_learning_rate_that_still_falls_within_runs():
    table = runs(60).assign(run=[f"r{i // 5}" for i in range(60)], lr=[1e-3, 8e-4, 5e-4, 1e-4, 1e-5] * 12)
    assert found(table)["mid-schedule"].evidence["rows"] == 48


def test_two_counts_of_parameters():
    table = runs().assign(n_params_total=lambda t: t["n_params_non_embedding"] + 4e7)
    finding = found(table)["embedding-count"]
    other = fit_law("hoffmann", table, columns={"n": "n_params_total"}, n_boot=0)
    assert finding.evidence["alpha, n_params_total"] == pytest.approx(other.theta["alpha"], rel=1e-5)
    large = runs(n=(1e10, 1e12)).assign(n_params_total=lambda t: t["n_params_non_embedding"] + 4e6)
    assert "embedding-count" not in found(large)


def test_a_count_that_nobody_named():
    table = runs().rename(columns={"n_params_non_embedding": "params"})
    assert found(table)["embedding-count"].evidence["column"] == "params"
    assert "embedding-count" not in found(runs(n=(2e8, 2e10)).rename(columns={"n_params_non_embedding": "params"}))


def test_rows_that_repeat():
    table = runs()
    table = pd.concat([table, table.iloc[[3, 5]].assign(run=["x", "y"])], ignore_index=True)
    finding = found(table)["duplicates"]
    assert (finding.evidence["rows"], finding.evidence["first_row"]) == (2, 91)


def test_other_units():
    assert (
        found(runs().rename(columns={"loss": "val_bpb"}), columns={"loss": "val_bpb"})["unit"].evidence["column"]
        == "val_bpb"
    )
    assert found(runs().assign(loss=lambda t: t["loss"] / 4))["unit"].evidence["median"] < 1


def test_tokens_that_were_computed_from_compute():
    table = runs().assign(flops=lambda t: 6 * t["n_params_non_embedding"] * t["tokens"]).drop(columns="tokens")
    assert "flops" in found(table)["C-definition"].evidence["expression"]
    assert "flops" in found(table, raw=None)["C-definition"].evidence["expression"]


def test_a_raw_table_of_other_rows_is_refused():
    with pytest.raises(TableError, match="the raw table has 12 rows and the fit 90"):
        fit_law("hoffmann", runs(), n_boot=0).diagnostics(runs(12))


def test_curves_are_not_accused_of_being_curves():
    law = LAWS["tissue"]
    lr = np.tile(np.concatenate([np.full(70, 1e-3), np.linspace(1e-3, 1e-5, 30)]), 2)
    step = np.tile(np.arange(1.0, 101), 2)
    table = pd.DataFrame({"run": np.repeat(["a", "b"], 100), "step": step, "lr_at_step": lr * np.repeat([1, 0.5], 100)})
    table["lr_sum"] = table.groupby("run")["lr_at_step"].cumsum()
    truth = {"L0": 2.0, "A": 0.4, "alpha": 0.5, "C": 0.2, "lambda": 0.999}
    theta = {p.name: np.array([[truth[p.name]]]) for p in law.parameters}
    table["loss"] = law.value(theta, law.prepare({name: table[name].to_numpy() for name in law.columns}))[0]
    table["loss"] *= np.exp(1e-3 * np.random.default_rng(0).normal(size=200))
    assert not {"mid-schedule", "checkpoints-as-runs", "duplicates"} & set(found(table, law))


# --- on request -------------------------------------------------------------------------------


def test_a_target_far_away():
    fit = fit_law("hoffmann", runs(), n_boot=0)
    near = fit.get_prediction({"n": [1e10], "tokens": [1e12]})
    assert far_target(near) == ()
    (finding,) = far_target(fit.get_prediction({"n": [1e12], "tokens": [1e14]}))
    assert finding.evidence["gap_decades"] > 1.5
    (finding,) = far_target(fit.get_prediction({"n": [1e9, 1e9], "tokens": [1e9, 2e10]}))
    assert finding.evidence["outside"] == 1


def test_rounded_coefficients():
    at = runs().rename(columns={"n_params_non_embedding": "n"})
    given = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
    finding = rounded_params("hoffmann", given, at)
    assert finding is not None
    assert finding.evidence["digits of alpha"] == 2
    assert finding.evidence["relative_error"] > 0.01
    exact = given | {"E": "1.690", "alpha": "0.3392", "beta": "0.2849"}
    assert rounded_params("hoffmann", exact, at) is None
    with pytest.raises(ConfigError, match="params: found A; accepted: A, B, E, alpha, beta"):
        rounded_params("hoffmann", {"A": 1.0}, at)
    with pytest.raises(ConfigError, match="E is 'one'"):
        rounded_params("hoffmann", given | {"E": "one"}, at)


def test_parabolas_in_place_of_a_law():
    fit = fit_law("hoffmann", runs(alpha=0.5, beta=0.25, A=8000.0, B=200.0), n_boot=0)
    budgets = np.geomspace(1e18, 1e21, 4)
    optimum = fit.frontier(budgets)["n"].to_numpy()
    narrow, wide, aside = (np.geomspace(a, b, 9) for a, b in ((0.5, 2), (0.02, 50), (0.01, 1.2)))
    for window, silent in ((narrow, True), (wide, False), (aside, False)):
        n, flops = (optimum[:, None] * window).ravel(), np.repeat(budgets, 9)
        assert (isoflop_parabola(fit, n, flops) is None) == silent
    finding = isoflop_parabola(fit, (optimum[:, None] * aside).ravel(), np.repeat(budgets, 9))
    assert finding is not None
    assert finding.evidence["largest_bias_decades"] > 0.1


# --- cost -------------------------------------------------------------------------------------


def test_it_costs_little():
    table = runs(240)
    fit = fit_law("hoffmann", table, n_boot=200)
    fit.diagnostics(table)
    spent = []
    for _ in range(3):
        start = time.process_time()
        fit.diagnostics(table)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.3


@pytest.mark.slow
def test_a_long_table_is_looked_at_in_part():
    table = runs(50_000)
    fit = fit_law("hoffmann", table, n_boot=20)
    assert fit.diagnostics(table) == ()
    table.loc[table["loss"].nlargest(1000).index, "loss"] *= 1.5
    findings = {finding.code: finding for finding in fit_law("hoffmann", table, n_boot=20).diagnostics(table)}
    assert "seen on 20000 of the 50000 rows" in findings["outlier-sensitivity"].message


# --- public tables ----------------------------------------------------------------------------


def public(path):
    return pd.read_csv(SHARED / "data" / path)


def epoch():
    table = public("chinchilla_epoch/runs.csv")
    return table[table["used_in_published_fit"] == 1]


@needs_shared
def test_epochs_table_hangs_on_the_width_of_the_loss():
    """arXiv:2404.10102's 240 runs: B is 2065, 2143, 2906 or 4876 as delta goes from 1e-4 to infinity."""
    findings = found(epoch())
    evidence = findings["delta-sensitivity"].evidence
    names = ["B, delta 0.0001", "B", "B, delta 0.01", "B, least squares"]
    assert [evidence[name] for name in names] == pytest.approx([2065, 2143, 2906, 4876], abs=1)
    names = [name.replace("B", "beta") for name in names]
    assert [evidence[name] for name in names] == pytest.approx([0.3654, 0.3672, 0.3815, 0.4059], abs=1e-4)
    assert "unidentified" not in findings
    derived = found(epoch(), columns={"tokens": "flops / (6 * n_params)"})
    assert derived["C-definition"].evidence["expression"] == "flops / (6 * n_params)"


@needs_shared
def test_five_runs_that_epoch_left_out_decide():
    evidence = found(public("chinchilla_epoch/runs.csv"))["outlier-sensitivity"].evidence
    assert evidence["rows_left_out"] == 5
    names = ["B", "B, without the highest losses", "beta", "beta, without the highest losses", "E"]
    expected = [12846, 2143.4, 0.45305, 0.36717, 1.8913]
    assert [evidence[name] for name in names] == pytest.approx(expected, rel=1e-4)


@needs_shared
@pytest.mark.parametrize(
    ("rows", "triggers"),
    [("flops < 1e19", {"condition", "resamples"}), ("flops > 1e21", {"range", "resamples", "interval"})],
)
def test_parts_of_epochs_table_determine_nothing(rows, triggers):
    fit = fit_law("hoffmann", epoch().query(rows), n_boot=200)
    assert {doubt.trigger for doubt in doubts(fit)} >= triggers
    assert not fit.identified
    if "condition" in triggers:
        assert condition(fit) == pytest.approx(1840, rel=0.01)
        assert fit.theta["alpha"] == pytest.approx(0.0843, abs=1e-4)
        assert fit.resamples_converged.mean() < 0.1
        assert "E-at-boundary" in {finding.code for finding in fit.diagnostics()}


@needs_shared
def test_no_irreducible_loss_in_porians_kaplan_variant():
    table = public("porian_isoflop/isoflop.csv").query("variant == 'owt2|base|long|kaplan|kaplan|train'")
    findings = found(table)
    assert findings["E-at-boundary"].evidence["E"] == 0
    assert findings["outlier-sensitivity"].evidence["alpha"] == pytest.approx(0.078, abs=1e-3)
    assert "checkpoints-as-runs" in findings


@needs_shared
def test_what_gemstones_checkpoints_confess():
    table = public("gemstones/checkpoints.csv")
    cool = table[table["in_fit_cool_end"] == 1]
    findings = found(cool, columns={"n": "n_params"})
    evidence = findings["embedding-count"].evidence
    names = ["alpha", "alpha, n_params_no_embed", "beta", "beta, n_params_no_embed"]
    assert [evidence[name] for name in names] == pytest.approx([0.300, 0.280, 0.580, 0.627], abs=1e-3)
    assert findings["checkpoints-as-runs"].evidence["within_run_correlation"] > 0.7
    assert "mid-schedule" not in findings
    hot = table[table["in_fit_hot"] == 1]
    findings = found(hot, columns={"n": "n_params"})
    assert findings["mid-schedule"].evidence["rows"] == len(hot)
    evidence = findings["embedding-count"].evidence
    assert [evidence[name] for name in names] == pytest.approx([0.293, 0.281, 0.713, 0.680], abs=1e-3)


@needs_shared
def test_sizes_that_hardly_differ_determine_no_exponent():
    table = public("gemstones/checkpoints.csv").query("in_fit_hot_100b_plus == 1")
    decades = np.log10(table["n_params"])
    fit = fit_law("hoffmann", table[(decades > 7.95) & (decades < 8.04)], columns={"n": "n_params"}, n_boot=100)
    assert {doubt.trigger for doubt in doubts(fit)} >= {"range", "condition"}
    assert condition(fit) > 1e4
    assert {"A", "alpha"} <= set(fit.unidentified)
    assert "few-runs" in {finding.code for finding in fit.diagnostics()}


@needs_shared
def test_what_runs_of_few_tokens_move_in_gadres_table():
    """N below 1e9, C4: alpha .187, and .242 without D/N below 10; too few runs to say that it is more than chance."""
    table = public("gadre_overtraining/runs.csv").query("train_data == 'c4_original' and n_params < 1e9")
    fit = fit_law("hoffmann", table, columns={"n": "n_params", "loss": "loss_c4_val"}, n_boot=300)
    few = table["tokens_per_param"].to_numpy() < 9.99
    (variant,) = Refits.of(fit).without({"few": few})
    assert (fit.theta["E"], fit.theta["alpha"]) == pytest.approx((1.137, 0.187), abs=1e-3)
    assert (variant.params["E"], variant.params["alpha"]) == pytest.approx((1.532, 0.242), abs=1e-3)
    assert variant.worst.chances < 3
    assert "interval" in {doubt.trigger for doubt in doubts(fit)}


@needs_shared
def test_other_public_tables():
    assert "unit" in found(public("llama3_isoflop/runs.csv"))
    misfitting = public("misfitting/final.csv")
    assert found(misfitting, columns={"n": "n_params"})["duplicates"].evidence["rows"] == 21
    repeated = public("datablations_repeated/runs.csv").query("epochs <= 1 and loss < 5")
    assert found(repeated)["misfit-beyond-noise"].evidence["noise_sd"] < 0.004
    wide = public("porian_isoflop/isoflop.csv").query("variant == 'rw|base|long|kaplan|kaplan|train'")
    finding = isoflop_parabola(fit_law("hoffmann", wide, n_boot=0), wide["n_params"], wide["flops"])
    assert finding is not None
    assert finding.evidence["exponent_bias"] < -0.1


@pytest.mark.parametrize("seed", range(3))
def test_tests_by_ranks_are_those_of_scipy_stats(seed):
    rng = np.random.default_rng(seed)
    values, groups = rng.normal(size=60), rng.integers(0, 4, 60)
    expected = stats.kruskal(*(values[groups == k] for k in range(4))).pvalue
    assert kruskal(values, groups) == pytest.approx(expected, rel=1e-12)
    at = rng.integers(0, 9, 60).astype(float)  # with ties
    assert spearman(values, at) == pytest.approx(stats.spearmanr(values, at).statistic * np.sqrt(59), rel=1e-12)
    assert two_sided(-1.7) == pytest.approx(2 * stats.norm.sf(1.7), rel=1e-12)
