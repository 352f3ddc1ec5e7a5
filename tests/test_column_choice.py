"""Which column of a table is taken, in which unit, and what is refused: names of the field's own logs and exports."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.fit import fit_law
from testbed.errors import TableError
from testbed.points import evaluation_rows, fit_columns, map_columns, mapping_notes, with_units
from tests.helpers.command_line import command

NDL = ("n", "tokens", "loss")
N = np.repeat([3e6, 2e7, 1.4e8, 9e8], 4)
D = np.tile([6e7, 5e8, 4e9, 3e10], 4)
LOSS = 1.7 + 350 / N**0.33 + 700 / D**0.31
CONSTANT = np.full(16, 7.0)


def chosen(columns, wanted=NDL, **given):
    return map_columns(pd.DataFrame(columns), wanted, given, "t.csv")


def noted(columns, wanted=NDL, **given):
    return " | ".join(mapping_notes(pd.DataFrame(columns), wanted, given, "t.csv"))


HEADERS = {  # what a public tool or table calls them -> n, tokens, loss
    "nanochat": (
        {"flops_budget": 6 * N * D, "depth": 10, "params_wte": N / 3, "params_lm_head": N / 3, "params_transformer": 2 * N / 3,
         "params_total": 2 * N, "num_iterations": 100, "tokens_trained": D, "val_bpb": LOSS, "core_score": 0.2},
        ("params_transformer + params_lm_head", "tokens_trained", "val_bpb"),
    ),
    "W&B's table of runs": (
        {"Name": [f"run-{i}" for i in range(16)], "State": "finished", "config.n_params": N, "summary.tokens": D,
         "summary.train/loss": LOSS - 0.1, "summary.val/loss": LOSS, "_step": 10},
        ("config.n_params", "summary.tokens", "summary.val/loss"),
    ),
    "W&B's history": (
        {"_step": range(16), "train/loss": LOSS - 0.1, "val/loss": LOSS, "n_params": N, "tokens": D},
        ("n_params", "tokens", "val/loss"),
    ),
    "marin": (
        {"config.lr": 1e-3, "summary.parameter_count": N, "summary.throughput/total_tokens": D,
         "summary.throughput/total_gflops": 6e-9 * N * D,
         "summary.eval/paloma/macro_loss": LOSS, "summary.train/loss": LOSS - 0.1},
        ("summary.parameter_count", "summary.throughput/total_tokens", "summary.eval/paloma/macro_loss"),
    ),
    "OLMo": (
        {"model/num_params": N, "throughput/total_tokens": D, "train/CrossEntropyLoss": LOSS - 0.1,
         "eval/c4_en-validation/CrossEntropyLoss": LOSS, "optim/learning_rate_group0": 1e-4},
        ("model/num_params", "throughput/total_tokens", "eval/c4_en-validation/CrossEntropyLoss"),
    ),
    "OpenEuroLLM": (
        {"job_name": [f"j{i}" for i in range(16)], "N": N, "D": D, "C": 6 * N * D,
         "lr": 1e-3, "gbsz": 64, "seed": 1, "loss": LOSS},
        ("N", "D", "loss"),
    ),
    "transformers' Trainer": (
        {"num_params": N, "num_input_tokens_seen": D, "total_flos": 6 * N * D,
         "loss": LOSS - 0.1, "eval_loss": LOSS, "epoch": 1.0},
        ("num_params", "num_input_tokens_seen", "eval_loss"),
    ),
    "MLflow": (
        {"params.lr": 0.1, "params.n_params": N, "metrics.tokens": D, "metrics.validation_loss": LOSS},
        ("params.n_params", "metrics.tokens", "metrics.validation_loss"),
    ),
    "a course": (
        {"Parameters": N, "Training Tokens": D, "Final Val Loss": LOSS},
        ("Parameters", "Training Tokens", "Final Val Loss"),
    ),
    "ObsScaling": (
        {"Model": [f"m{i}" for i in range(16)], "Model Size (B)": N / 1e9, "Pretraining Data Size (T)": D / 1e12,
         "FLOPs (1E21)": 6e-21 * N * D, "loss": LOSS},
        ("`Model Size (B)` * 1e9", "`Pretraining Data Size (T)` * 1e12", "loss"),
    ),
    "LAION": (
        {"model": "vit", "model_mparams": N / 1e6, "samples_seen": D, "lr": 1e-3, "loss": LOSS},
        ("model_mparams * 1e6", "samples_seen", "loss"),
    ),
    "long names beside letters": (
        {"params": N, "n": [2, 3, 4, 5] * 4, "tokens_trained": D, "D": 384, "bpb": LOSS, "L": [6, 8, 12, 24] * 4},
        ("params", "tokens_trained", "bpb"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_the_fields_tables_need_no_flag(name):
    columns, expected = HEADERS[name]
    table = pd.DataFrame(columns)
    mapping = map_columns(table, NDL, {}, "t")
    assert tuple(mapping[part] for part in NDL) == expected
    points = fit_columns(table, mapping, "t")
    np.testing.assert_allclose(points["n"], N, rtol=1e-12)
    np.testing.assert_allclose(points["tokens"], D, rtol=1e-12)
    assert fit_law("hoffmann", table, n_boot=0).theta["beta"] == pytest.approx(0.31, abs=1e-3)


UNITS = {  # header -> factor, or None where it is no count
    "Model Size (B)": 1e9, "params_M": 1e6, "mparams": 1e6, "#Params (B)": 1e9, "params_in_millions": 1e6, "N (in millions)": 1e6,
    "Params [M]": 1e6, "N_M": 1e6, "n_params_b": 1e9, "MParams": 1e6, "Parameters, B": 1e9, "N / 1e6": 1e6, "million params": 1e6,
    "Model Size (MB)": None, "model_size_gb": None, "n_b": None, "params": 1.0, "n_params": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_in_a_header_is_read(name):
    factor = UNITS[name]
    table = pd.DataFrame({name: N / (factor or 1e6), "loss": LOSS})
    if factor is None:
        with pytest.raises(TableError, match="no column for n"):
            map_columns(table, ("n", "loss"), {}, "t")
        return
    for given in ({}, {"n": name}):
        points = fit_columns(table, map_columns(table, ("n", "loss"), given, "t"), "t")
        np.testing.assert_allclose(points["n"], N, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("tokens (billions)", 1e9),
        ("tokens_B", 1e9),
        ("Pretraining Data Size (T)", 1e12),
        ("mtokens", 1e6),
        ("D (×1e9)", 1e9),
    ],
)
def test_units_of_tokens_and_flops(name, factor):
    assert fit_columns(table := pd.DataFrame({name: D / factor}), map_columns(table, ("tokens",), {}, "t"), "t")[
        "tokens"
    ].to_numpy() == pytest.approx(D)
    flops = pd.DataFrame({"FLOPs (1E21)": D / 1e21, "TFLOPs": 312.0, "loss": 1.0})
    assert map_columns(flops, ("flops",), {}, "t")["flops"] == "`FLOPs (1E21)` * 1e21"


def test_units_of_losses_and_shares():
    assert chosen({"N": N, "D": D, "loss (bits)": LOSS})["loss"] == f"`loss (bits)` * {math.log(2)!r}"
    assert chosen({"N": N, "D": D, "loss (bits/byte)": LOSS})["loss"] == "loss (bits/byte)"
    assert chosen({"acc (%)": N}, ("accuracy",)) == {"accuracy": "`acc (%)` * 0.01"}
    assert chosen({"acc_pct": N}, ("error",)) == {"error": "1 - (acc_pct * 0.01)"}
    assert chosen({"Model Size (B)": ["7B"] * 16, "D": D, "loss": LOSS})["n"] == "Model Size (B)"  # the cells say it


def test_units_that_are_stated_go_before_those_of_headers():
    table = pd.DataFrame({"size_M": N / 1e9, "D": D, "loss": LOSS})
    assert with_units(table, {"n": "size_M"}, {"n": "B", "tokens": "1e9"}, "t") == {
        "n": "size_M * 1e9",
        "tokens": "D * 1e9",
    }
    for name, unit in (("n", "Mio."), ("n", "bits"), ("loss", "M"), ("run", "M")):
        with pytest.raises(TableError, match=rf"found the unit '{re.escape(unit)}' of {name}; accepted: k, M, B"):
            with_units(table, {}, {name: unit}, "t")
    with pytest.raises(TableError, match="no column for flops"):
        with_units(table, {}, {"flops": "E"}, "t")
    fit = fit_law(
        "hoffmann", table.assign(D=D / 1e9), columns={"n": "size_M"}, units={"n": "B", "tokens": "B"}, n_boot=0
    )
    assert fit.columns["n"] == "size_M * 1e9"
    assert fit.predict(pd.DataFrame({"size_M": [1.0], "D": [20.0]})) == fit.predict(n=1e9, tokens=2e10)


SILENT = {
    "millions and billions": ({"n": N / 1e6, "tokens": D / 1e9}, "no model is that small.* --unit n=M,tokens=B"),
    "billions twice": ({"n": N / 1e9, "tokens": D / 1e9}, "--unit n=B,tokens=B"),
    "tokens in billions": (
        {"n": N, "tokens": D / 1e9},
        r"no run is that short; .*--unit tokens=B \(then N is 3M to 900M, D 60M to 30B",
    ),
    "tokens in millions beside FLOPs": (
        {"n": N, "tokens": D / 1e6, "flops": 6 * N * D},
        "times 1e6 in every row .*--unit tokens=M",
    ),
    "thousands of tokens, by FLOPs": (
        {"n": N, "tokens": D / 1e3, "flops": 6.3 * N * D},
        "times 1e3 in every row .*--unit tokens=k",
    ),
    "large models, by FLOPs": (
        {"n": N * 1e3, "tokens": D / 1e3, "flops": 6 * N * D * 1e6},
        "times 1e6 in every row",
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_sizes_in_an_unsaid_unit_are_refused_with_the_factor(name):
    columns, match = SILENT[name]
    table = pd.DataFrame(columns | {"loss": LOSS})
    with pytest.raises(TableError, match=match) as caught:
        fit_law("hoffmann", table)
    stated = re.search(r"--unit (\S+)", str(caught.value))[1]
    units = dict(part.split("=") for part in stated.rstrip(",;").split(","))
    fit = fit_law("hoffmann", table, units=units, n_boot=0)
    assert np.median(fit.points["tokens"] / fit.points["n"]) == pytest.approx(np.median(D / N), rel=0.4)


def test_flops_in_another_unit_are_refused_where_a_law_takes_them_only():
    table = pd.DataFrame({"n": N, "tokens": D, "flops": 6e-18 * N * D, "loss": LOSS})
    assert fit_law("hoffmann", table, n_boot=0).columns["tokens"] == "tokens"
    with pytest.raises(TableError, match=r"6 N D / 1e18 in every row.*--unit flops=1e18"):
        fit_law("hoffmann", table, columns={"flops": "flops"})
    assert fit_law("hoffmann", table.assign(flops=4.1 * N * D), n_boot=0).nobs == 16  # another count, the same unit


def test_what_was_stated_as_it_is_is_believed():
    small = pd.DataFrame({"n": N / 1e6, "tokens": D / 1e6, "loss": LOSS})
    assert fit_law("hoffmann", small, units={"n": "1", "tokens": "1"}, n_boot=0).nobs == 16
    examples = pd.DataFrame({"dataset_size": [160, 240, 360, 540, 810], "loss": 4 - 0.1 * np.arange(5)})
    assert fit_law("hestness", examples, n_boot=0).nobs == 5  # a curve over examples has no models


def test_responses_out_of_their_range_are_refused():
    table = pd.DataFrame({"n": N, "tokens": D, "loss": LOSS, "accuracy": 90 - 10 * LOSS, "vocab_size": 256})
    law = next(name for name in ("gadre_error", "gadre") if name in _laws())
    with pytest.raises(TableError, match=r"error = 1 - accuracy holds .* takes 0 to 1; percents\? --unit accuracy=%"):
        fit_law(law, table)
    with pytest.raises(
        TableError, match=r"above ln V = 5\.545 of a guess over vocab_size in every row; in bits: --unit loss=bits"
    ):
        fit_law("hoffmann", table.assign(loss=LOSS + 6))


def _laws():
    from testbed.analysis.laws import LAWS

    return [name for name, law in LAWS.items() if law.response == "error"]


def test_held_out_losses_go_before_others_and_the_second_is_told():
    for held in ("eval_loss", "val/loss", "test_loss", "loss_val", "dev.loss", "Validation NLL"):
        columns = {"N": N, "D": D, "loss": LOSS - 0.1, held: LOSS, "train_loss": LOSS - 0.1}
        assert chosen(columns)["loss"] == held
        assert f"loss is {held}; the table also has loss and train_loss: --loss loss takes that" in noted(columns)
    assert chosen({"N": N, "D": D, "train_loss": LOSS, "val_ppl": np.exp(LOSS)})["loss"] == "log(val_ppl)"
    assert chosen({"N": N, "D": D, "train_loss": LOSS, "aux_loss": LOSS})["loss"] == "train_loss"
    assert "ppl is exp(loss): --loss 'log(ppl)' fits the loss" in noted({"N": N, "D": D, "ppl": LOSS}, loss="ppl")
    with pytest.raises(TableError, match="eval/c4/loss and eval/wiki/loss could each be loss"):
        chosen({"N": N, "D": D, "eval/c4/loss": LOSS, "eval/wiki/loss": LOSS + 1})


def test_what_cannot_be_is_not_taken():
    with pytest.raises(TableError, match="L holds whole numbers, 6 to 24, which is no loss"):
        chosen({"N": N, "D": D, "L": [6, 8, 12, 24] * 4})
    assert chosen({"N": N, "D": D, "C": 3, "loss": LOSS})["tokens"] == "D"
    with pytest.raises(TableError, match="no column for tokens"):
        chosen({"N": N, "C": [64, 128] * 8, "loss": LOSS})  # channels give no tokens
    assert "n holds 2 to 5: not taken for n" in noted({"params": N, "n": [2, 3, 4, 5] * 4, "D": D, "loss": LOSS})
    assert chosen({"n_examples": D, "n": N, "n_params_total": 2 * N, "tokens": D, "loss": LOSS})["n"] == "n"
    assert chosen({"n": D / 1e3 + np.arange(16) ** 6, "params": N, "tokens": D, "loss": LOSS})["n"] == "params"


RUNS = {  # columns beside n, tokens and loss -> the column that names runs
    "a model that names the size": ({"model": [f"{n:g}" for n in N]}, None),
    "a model that is an architecture": ({"model": ["vit", "mixer"] * 8}, None),
    "a name for each row": ({"job_name": [f"j{i}" for i in range(16)]}, "job_name"),
    "a model with steps": ({"model": [f"{n:g}" for n in N], "step": D / 1e5}, "model"),
    "a run with checkpoints": ({"run": [f"{n:g}" for n in N]}, "run"),
    "a name of rows of several rates": ({"name": [f"{n:g}" for n in N], "peak_lr": [1e-3, 2e-3] * 8}, None),
    "the id in a log": ({"run_id": [f"{n:g}" for n in N], "model": "gpt"}, "run_id"),
    "a model with gaps": ({"model": [None, *map(str, range(15))]}, None),
}


@pytest.mark.parametrize("name", RUNS)
def test_what_names_a_run_is_decided_by_what_varies(name):
    more, run = RUNS[name]
    columns = {"n": N, "tokens": D, "loss": LOSS} | more
    assert chosen(columns).get("run") == run
    assert "run" not in chosen(columns, run="none")
    if run is None and None not in next(iter(more.values())):
        assert "every row is a run; --run" in noted(columns)
        assert chosen(columns, run=next(iter(more)))["run"] == next(iter(more))


def test_rows_of_training_in_a_log_are_left_out():
    train = pd.DataFrame({"n_params": N, "tokens": D, "loss": LOSS - 0.2, "learning_rate": 1e-6})
    held = pd.DataFrame({"n_params": N, "tokens": D, "eval_loss": LOSS})
    log = pd.concat([train, held]).sort_index(kind="stable").reset_index(drop=True)
    found = evaluation_rows(log, NDL, {}, "t")
    assert found.rows["eval_loss"].tolist() == LOSS.tolist()
    assert "16 of 32 rows hold loss and no eval_loss: left out" in found.note
    assert fit_law("hoffmann", log, n_boot=0).nobs == 16
    broken = held.assign(eval_loss=[np.nan, *LOSS[1:]])
    with pytest.raises(TableError, match="row 1: eval_loss is nan"):
        fit_law("hoffmann", broken)


@pytest.mark.usefixtures("warm")
def test_units_and_notes_on_the_command_line(tmp_path):
    table = pd.DataFrame(
        {
            "params": N / 1e6,
            "tokens": D / 1e9,
            "val_loss": LOSS,
            "train_loss": LOSS - 0.1,
            "model": [f"gpt {n:g}" for n in N],
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    refused = command("fit", tmp_path / "t.csv")
    assert refused.returncode == 2
    assert "--unit n=M,tokens=B" in " ".join(refused.stderr.split())
    end = command("fit", tmp_path / "t.csv", "--unit", "n=M,tokens=B", "--bootstrap", "40", "-o", tmp_path / "fit.json")
    words = " ".join(end.stdout.split())
    assert "columns: n = params * 1e6, tokens = tokens * 1e9, loss = val_loss" in words
    assert "the table also has train_loss" in words
    assert "model names the size, not the run" in words
    best = json.loads(command("frontier", tmp_path / "fit.json", "--flops", "1e20", "--json").stdout)
    assert 6 * best["n"] * best["tokens"] == pytest.approx(1e20)
    assert 1e8 < best["n"] < 1e10
    at = json.loads(command("predict", tmp_path / "fit.json", "--at", tmp_path / "t.csv", "--json").stdout)
    assert at["rows"][5]["loss"] == pytest.approx(LOSS[5], rel=0.01)
