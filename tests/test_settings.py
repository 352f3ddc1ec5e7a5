"""Rows of one design that differ in more than a seed: named, no noise, and mended by --best, --by and --share."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.fit.best_rows import best_rows
from testbed.analysis.fit.comparison import compare
from testbed.analysis.fit.groups import fit_groups
from testbed.analysis.fit.heldout import backtest
from testbed.analysis.fit.shared_law import GROUP, SharedLaw
from testbed.analysis.laws import LAWS
from testbed.analysis.report.study.tables import prediction_table
from testbed.errors import ConfigError, TableError
from tests.helpers.command_line import command

SIZES, HORIZONS = (2e7, 6e7, 2e8, 6e8, 2e9), (1e9, 4e9, 1.6e10, 6.4e10)


def hoffmann(n, tokens, floor=1.8):
    return floor + 480 * n**-0.35 + 2100 * tokens**-0.37


def grid(noise=0.002, seed=0, floor=1.8, **further):
    """The table of all combinations of N, D and the values of further columns."""
    names = ["params", "tokens", *further]
    index = pd.MultiIndex.from_product([SIZES, HORIZONS, *further.values()], names=names)
    table = index.to_frame(index=False)
    drawn = np.random.default_rng(seed).normal(size=len(table))
    return table.assign(val_loss=hoffmann(table["params"], table["tokens"], floor) * np.exp(noise * drawn))


def tuned(name="lr", values=(1e-3, 2e-3, 4e-3, 8e-3), curvature=0.03, **options):
    """A sweep of a setting whose best value falls with size."""
    table = grid(**{name: values}, **options)
    best = 4e-3 * (table["params"] / 2e8) ** -0.2
    return table.assign(val_loss=table["val_loss"] * np.exp(curvature * np.log(table[name] / best) ** 2))


def corpora(**options):
    table = grid(corpus=("web", "code"), **options)
    floor = table["corpus"].map({"web": 1.0, "code": 0.45})
    drawn = np.exp(0.002 * np.random.default_rng(5).normal(size=len(table)))
    return table.assign(val_loss=hoffmann(table["params"], table["tokens"], 1.8 * floor) * drawn)


def found(table, law="hoffmann", n_boot=50, **options):
    return {finding.code: finding for finding in fit_law(law, table, n_boot=n_boot, **options).diagnostics(table)}


# --- naming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lr", "peak_learning_rate", "batch_size", "weight_decay"])
@pytest.mark.slow
def test_a_sweep_of_a_setting_is_no_sweep_of_seeds(name):
    table = tuned(name)
    fit = fit_law("hoffmann", table, n_boot=50)
    assert fit.differs == (name,)
    assert np.isnan(fit.rows.noise_sd())
    finding = found(table)["rows-differ"]
    assert f"80 rows at 20 designs differ in {name}: not seeds" in finding.message
    assert "(--best)" in finding.message
    assert f'--where "{name} == ' in finding.message
    assert "seeds (" not in " ".join(each.message for each in found(table).values() if each.code != "rows-differ")
    assert "misfit-beyond-noise" not in found(table)


def test_a_random_search_of_two_settings_is_named_whole():
    table = grid(batch=(64, 128, 256))
    table["learning_rate"] = 10 ** np.random.default_rng(0).uniform(-4, -2, len(table))
    table["val_loss"] *= np.exp(0.02 * np.log(table["learning_rate"] / 1e-3) ** 2)
    finding = found(table)["rows-differ"]
    assert finding.evidence["columns"] == "batch, learning_rate"
    assert finding.message.count("--best") == 1
    assert len(best_rows("hoffmann", table).rows) == 20


def test_the_steps_of_a_batch_are_not_named_beside_it_nor_its_bad_values_as_far_rows():
    table = tuned("batch_tokens", (2**16, 2**18, 2**20, 2**21), curvature=0.0)
    table["max_steps"] = table["tokens"] / table["batch_tokens"]
    table.loc[[3, 40], "val_loss"] *= 3
    codes = found(table)
    assert codes["rows-differ"].evidence["columns"] == "batch_tokens"
    assert "far-rows" not in codes


def test_two_corpora_are_named_with_the_share_they_explain():
    finding = found(corpora())["rows-differ"]
    assert "40 rows at 20 designs differ in corpus" in finding.message
    assert finding.evidence["share"] > 0.95
    assert "--where \"corpus == 'web'\"" in finding.message or "--where \"corpus == 'code'\"" in finding.message
    assert "--by corpus --share alpha,beta" in finding.message


def test_a_column_that_explains_the_residuals_is_named_where_no_design_repeats():
    table = corpora().sort_values("params").reset_index(drop=True)
    table["tokens"] *= np.where(table["corpus"] == "web", 1.0, 1.1)  # so that no two rows are of one design
    finding = found(table)["explained-by"]
    assert finding.evidence["column"] == "corpus"
    assert finding.evidence["share"] > 0.9
    assert "--by corpus" in finding.message
    assert found(table)["explained-by"].message.startswith("corpus explains 9")


def test_seeds_are_noise_as_they_were():
    table = grid(seed_=(0, 1, 2)).rename(columns={"seed_": "data_seed"})
    fit = fit_law("hoffmann", table, n_boot=50)
    assert fit.differs == ()
    assert fit.rows.noise_sd() == pytest.approx(0.002, rel=0.3)
    assert "rows-differ" not in found(table)


def test_seeds_within_settings_are_the_noise():
    table = tuned(init_seed=(0, 1, 2))
    fit = fit_law("hoffmann", table, n_boot=50)
    assert fit.differs == ("lr",)
    assert fit.rows.noise_sd() == pytest.approx(0.002, rel=0.3)
    means = fit_law("hoffmann", table, replicates="mean", n_boot=50)
    assert means.nobs == 80  # of each learning rate, not across them


def test_what_was_measured_or_names_a_run_is_no_setting():
    table = grid(trial=(0, 1))
    rng = np.random.default_rng(1)
    table = table.assign(
        run_id=[f"run-{k}" for k in range(len(table))],
        train_loss=rng.normal(size=len(table)),
        wall_time=rng.integers(1, 5, len(table)),
        gpu=rng.choice(["a", "b"], len(table)),
        flops=6 * table["params"] * table["tokens"],
    )
    assert fit_law("hoffmann", table, n_boot=0).differs == ()


def test_a_law_of_size_alone_says_that_tokens_differ():
    finding = found(grid(), "kaplan_n")["rows-differ"]
    assert finding.evidence["columns"] == "tokens"
    assert "--law hoffmann" in finding.message


def test_a_prediction_calls_the_scatter_of_a_sweep_misfit():
    fit = fit_law("hoffmann", tuned(), n_boot=50)
    at = {"params": [4e9], "tokens": [1e11]}
    prediction = fit.get_prediction(at)
    assert prediction.sd_noise[0] == 0
    assert prediction.sd_discrepancy[0] > 0.01
    assert "unknown" in prediction_table(fit, pd.DataFrame(at), prediction.summary_frame(), 0.9).rows[0]
    again = Fit.from_dict(json.loads(json.dumps(fit.to_dict())))
    assert again.differs == ("lr",)
    assert again.get_prediction(at).sd_obs == pytest.approx(prediction.sd_obs)


@pytest.mark.parametrize("replicates", ["separate", "mean"])
def test_a_back_test_and_a_comparison_say_that_rows_differ(replicates):
    table = tuned()
    tested = backtest("hoffmann", table, cuts=2, n_boot=20, replicates=replicates)
    assert [finding.code for finding in tested.warnings] == ["rows-differ"]
    if replicates == "separate":
        compared = compare(["hoffmann"], table, n_boot=20, cuts=2)
        assert "rows-differ" in {finding.code for finding in compared.warnings}


# --- the best of each design ----------------------------------------------------------------------


def test_the_best_of_each_design_gives_the_law_of_tuned_runs():
    table = tuned()
    best = best_rows("hoffmann", table)
    assert len(best.rows) == 20
    lowest = table.groupby(["params", "tokens"])["val_loss"].min()
    assert sorted(best.rows["val_loss"]) == sorted(lowest)
    assert fit_law("hoffmann", best.rows, n_boot=0).theta["alpha"] == pytest.approx(0.35, abs=0.03)
    assert "20 of 80 rows kept, the lowest val_loss" in best.notes[0].replace("lowest loss", "lowest val_loss")
    assert "tried 0.001 to 0.008" in " ".join(best.notes)


def test_an_optimum_at_the_end_of_what_was_tried_is_told():
    notes = " ".join(best_rows("hoffmann", tuned(values=(1e-3, 1.2e-3, 1.4e-3))).notes)
    assert "a better one may lie beyond" in notes


def test_the_setting_is_chosen_with_all_its_seeds():
    table = tuned(init_seed=(0, 1, 2))
    best = best_rows("hoffmann", table).rows
    assert len(best) == 60
    assert (best.groupby(["params", "tokens"])["lr"].nunique() == 1).all()
    seeds_only = grid(seed_=(0, 1)).rename(columns={"seed_": "seed"})
    kept = best_rows("hoffmann", seeds_only)
    assert len(kept.rows) == 40
    assert "a seed is not chosen" in kept.notes[0]


def test_runs_without_a_loss_are_never_the_best_and_accuracy_rises():
    table = tuned()
    table.loc[table["lr"] == 8e-3, "val_loss"] = np.nan
    best = best_rows("hoffmann", table)
    assert best.rows["val_loss"].notna().all()
    assert "20 rows without a loss left out" in best.notes[0]
    accuracy = grid(lr=(1e-3, 2e-3)).rename(columns={"val_loss": "loss"})
    accuracy = accuracy.assign(flops=6 * accuracy["params"] * accuracy["tokens"], accuracy=0.3 + 100 * accuracy["lr"])
    assert set(best_rows("krajewski", accuracy, {"accuracy": "accuracy"}).rows["lr"]) == {2e-3}


def test_data_and_architectures_are_not_chosen_among_but_each_has_its_best():
    table = corpora(lr=(1e-3, 2e-3, 4e-3))
    table["val_loss"] *= np.exp(0.03 * np.log(table["lr"] / 2e-3) ** 2)
    with pytest.raises(
        TableError, match=r"differ in corpus \(web, code\), and --best would choose among them.*--by corpus"
    ):
        best_rows("hoffmann", table)
    best = best_rows("hoffmann", table, by="corpus").rows
    assert best.groupby("corpus").size().to_dict() == {"code": 20, "web": 20}
    assert best["lr"].value_counts().idxmax() == 2e-3


def test_a_table_with_nothing_to_choose_among_is_refused():
    with pytest.raises(TableError, match="every row is a design of its own"):
        best_rows("hoffmann", grid())


# --- groups ---------------------------------------------------------------------------------------


def test_one_fit_a_group():
    grouped = fit_groups("hoffmann", corpora(), "corpus", n_boot=50)
    assert grouped.params["E"].to_dict() == pytest.approx({"web": 1.8, "code": 0.81}, rel=0.06)
    assert {"corpus", "points", "alpha", "alpha_low", "alpha_high"} <= set(grouped.table().columns)
    assert set(grouped.diagnostics(corpora())) == {"web", "code"}


def test_shared_exponents_with_the_rest_by_group():
    table = corpora()
    grouped = fit_groups("hoffmann", table, "corpus", share=("alpha", "beta"), n_boot=100)
    params = grouped.params
    assert params["alpha"].nunique() == params["beta"].nunique() == 1
    alone = fit_groups("hoffmann", table, "corpus", n_boot=100)
    width = {k: float(np.ptp(g.fits["web"].interval("alpha"))) for k, g in (("shared", grouped), ("alone", alone))}
    assert width["shared"] < width["alone"]
    assert grouped.joint.objective == pytest.approx(sum(fit.objective for fit in grouped.fits.values()))
    assert grouped.joint.objective >= sum(fit.objective for fit in alone.fits.values())
    web = Fit.from_dict(json.loads(json.dumps(grouped.fits["web"].to_dict())))
    assert web.frontier([1e22])["n_low"].iloc[0] < web.frontier([1e22])["n"].iloc[0]


def test_shared_parameters_are_exact_without_noise():
    table = grid(0.0, corpus=("a", "b", "c"))
    factor = table["corpus"].map({"a": 300.0, "b": 500.0, "c": 900.0})
    table["val_loss"] = 1.7 + factor * table["params"] ** -0.33 + 1500 * table["tokens"] ** -0.36
    grouped = fit_groups("hoffmann", table, "corpus", share=("E", "B", "alpha", "beta"), n_boot=0)
    assert grouped.params["A"].to_dict() == pytest.approx({"a": 300, "b": 500, "c": 900}, rel=1e-4)


def test_shared_parameters_of_a_law_whose_derivatives_are_found_by_complex_steps():
    law = LAWS["kaplan_nd"]
    joint = SharedLaw(law, ("a", "b"), (law.parameters[-1].name,))
    columns = {name: np.geomspace(1e7, 1e9, 6) for name in law.columns} | {GROUP: np.tile([1.0, 2.0], 3)}
    prepared = joint.prepare(columns)
    theta = {p.name: np.full((1, 1), np.sqrt(p.start[0] * p.start[1])) for p in joint.parameters}
    slopes = joint.gradient(theta, prepared)
    for name, value in theta.items():
        step = 1e-6 * value
        ahead, back = (joint.value({**theta, name: value + sign * step}, prepared) for sign in (1, -1))
        assert slopes[name] == pytest.approx((ahead - back) / (2 * step), rel=1e-5, abs=1e-12), name


def test_groups_that_make_no_sense_are_refused():
    table = corpora()
    for options, error, match in (
        ({"by": "corpus", "share": ("gamma",)}, ConfigError, "no parameter gamma; accepted: A, B, E"),
        ({"by": "corpus", "share": ("A", "B", "E", "alpha", "beta")}, ConfigError, "one fit of all rows"),
        ({"by": "corpus", "share": ("alpha",), "fixed": {"alpha": 0.3}}, ConfigError, "alpha is held"),
        ({"by": "nothing"}, TableError, "no column nothing"),
        ({"by": "val_loss"}, TableError, "no group of val_loss can be fitted"),
    ):
        with pytest.raises(error, match=match):
            fit_groups("hoffmann", table, options.pop("by"), n_boot=0, **options)


# --- a held parameter frees its column ----------------------------------------------------------


def test_borrowed_parameters_let_one_model_be_fitted():
    tokens = np.geomspace(1e9, 1e11, 12)
    one = pd.DataFrame({"params": 2e8, "tokens": tokens, "loss": hoffmann(2e8, tokens)})
    with pytest.raises(TableError, match="n is 2e\\+08 in every row"):
        fit_law("hoffmann", one, n_boot=0)
    with pytest.raises(TableError, match="n is 2e\\+08 in every row"):
        fit_law("hoffmann", one, fixed={"alpha": 0.35}, n_boot=0)  # A and E cannot be told apart
    fit = fit_law("hoffmann", one, fixed={"A": 480.0, "alpha": 0.35}, n_boot=20)
    assert fit.theta["E"] == pytest.approx(1.8, rel=1e-6)
    assert fit.theta["beta"] == pytest.approx(0.37, rel=1e-6)
    assert fit.predict(n=2e8, tokens=4e11)[0] == pytest.approx(hoffmann(2e8, 4e11), rel=1e-6)


def test_a_fit_at_a_bound_says_so():
    n, tokens = np.repeat([1e7, 3e7, 1e8, 3e8], 5), np.tile(np.geomspace(1e9, 1e11, 5), 4)
    table = pd.DataFrame({"n": n, "tokens": tokens, "loss": 2 + 0.3 * (tokens / 1e9) ** -0.4 + (n / 1e7) ** -12.0})
    fit = fit_law("hoffmann", table, n_boot=0)
    assert fit.at_bound == ("alpha",)
    assert fit.to_dict()["at_bound"] == ["alpha"]
    assert fit_law("hoffmann", grid(), n_boot=0).at_bound == ()


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.slow
def test_best_by_and_share_on_the_command_line(tmp_path):
    tuned().to_csv(tmp_path / "sweep.csv", index=False)
    corpora().to_csv(tmp_path / "two.csv", index=False)
    said = command("fit", tmp_path / "sweep.csv", "--best", "--bootstrap", "50").stdout
    assert "20 of 80 rows kept" in said
    assert "rows-differ" not in said
    shared = command(
        "fit",
        tmp_path / "two.csv",
        "--by",
        "corpus",
        "--share",
        "alpha,beta",
        "--bootstrap",
        "50",
        "-o",
        tmp_path / "f.json",
    ).stdout
    assert "alpha, shared" in shared
    assert Fit.from_dict(json.loads((tmp_path / "f-code.json").read_text())).theta["E"] == pytest.approx(0.81, rel=0.1)
    assert "say what the groups are" in command("fit", tmp_path / "two.csv", "--share", "alpha").stderr
