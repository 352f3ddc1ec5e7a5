"""The points table of a folder: every loss of every finished run once, exact, and written to the last bit."""

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.fit import fit_law
from testbed.errors import TableError
from testbed.files import append_line, write_json
from testbed.points import POINTS_COLUMNS, annealed_only, column_named, read_table, write_table
from testbed.records import Done, Eval, as_json
from testbed.training.store import SweepFolder
from testbed.training.store.sweep_points import sweep_points
from testbed.training.sweep import plan


@pytest.fixture
def folder(tmp_path, tiny_config, tiny_source):
    """Three runs: one done, one without its end, one done with counts that no 64 bits hold."""
    sweep = SweepFolder.create(tmp_path / "s", tiny_config, plan(tiny_config, tiny_source.facts).grid)
    for index, spec in enumerate(sweep.specs[:3]):
        run = sweep.run(spec)
        run.path.mkdir(parents=True)
        for evaluation in evaluations(spec, 10**12 if index == 2 else 1):
            append_line(run.path / "evals.jsonl", evaluation.model_dump_json())
        if index != 1:
            done = Done(finished="2026-01-01T00:00:00+00:00", steps=1, tokens=1, flops=1, seconds=1.0)
            write_json(run.path / "done.json", as_json(done))
    return sweep


def evaluations(spec, times):
    rows = [(None, "stable", 3), (spec.horizons[0].tokens, "annealed", 7), (spec.horizons[1].tokens, "decaying", 9)]
    return [
        Eval(
            phase=phase,
            horizon=horizon,
            step=step,
            tokens=step * 256 * times,
            flops=step * 256 * times * spec.counts.flops_per_token,
            loss=1 / step,
            bpb=None,
            train_loss=None,
            lr=0.1,
            seconds=0.0,
        )
        for horizon, phase, step in rows
    ]


def test_every_loss_of_a_finished_run_has_its_row(folder):
    table = sweep_points(folder)
    assert list(table.columns) == list(POINTS_COLUMNS)
    first, second = folder.specs[0], folder.specs[2]
    assert table["run"].tolist() == [first.run_id] * 3 + [second.run_id] * 3
    row = table.iloc[4]
    n, tokens = second.counts.n_params_non_embedding, 7 * 256 * 10**12
    assert (row["tokens"], row["flops"], row["flops_6nd"]) == (
        tokens,
        tokens * second.counts.flops_per_token,
        6 * n * tokens,
    )
    assert row["flops"] > 2**63  # so it was not cut to 64 bits
    assert (row["tokens_per_param"], row["loss"], row["lr_at_step"]) == (tokens / n, 1 / 7, 0.1)
    assert (row["peak_lr"], row["schedule"]) == (second.lr, "wsd")
    assert table["horizon"].isna().tolist() == [True, False, False] * 2
    assert table["branch_step"].tolist()[1:3] == [h.branch_step for h in first.horizons[:2]]
    assert row["unique_tokens"] == tokens  # an endless source
    assert (row["init_seed"], row["data_seed"], row["width"]) == (
        second.init_seed,
        second.data_seed,
        second.shape.width,
    )


def test_a_folder_without_finished_runs_has_an_empty_table(tmp_path, tiny_config, tiny_source):
    table = sweep_points(SweepFolder.create(tmp_path / "s", tiny_config, plan(tiny_config, tiny_source.facts).grid))
    assert table.empty and list(table.columns) == list(POINTS_COLUMNS)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("text", ["plain", 'with "quotes", commas\tand\nlines', ""])
def test_text_formats_keep_every_bit(tmp_path, suffix, text):
    values = np.array([0.1 + 0.2, 5e-324, 1.7976931348623157e308, 1e22, -0.0, 1e-7])
    table = pd.DataFrame({"name, of": text or "x", "value": values, "count": 2**63 - 1, "none": np.nan})
    table.loc[0, "name, of"] = text
    write_table(table, tmp_path / f"t{suffix}")
    again = read_table(tmp_path / f"t{suffix}")
    assert again["value"].to_numpy().tobytes() == values.tobytes()
    assert again["count"].tolist() == [2**63 - 1] * 6 and again["none"].isna().all()
    assert again["name, of"].fillna("").tolist() == table["name, of"].tolist()


def test_counts_beyond_64_bits_are_written_whole(tmp_path):
    write_table(pd.DataFrame({"flops": [10**25, 1], "loss": [1.5, 2.0]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[1].split(",")[0] == str(10**25)


def test_the_id_of_a_run_is_that_of_what_it_is_now(tiny_spec):
    first = tiny_spec.run_id
    other = tiny_spec.model_copy(update={"lr": 2 * tiny_spec.lr})
    assert other.run_id != first == tiny_spec.run_id == other.model_copy(update={"lr": tiny_spec.lr}).run_id
    again = type(tiny_spec).model_validate_json(tiny_spec.model_dump_json())
    assert again == tiny_spec and again.run_id == first and "run_id" not in tiny_spec.model_dump()


def test_a_law_of_peak_rates_is_fitted_to_the_rates_of_the_runs_not_to_decayed_ones(folder):
    fit = fit_law("step_law_lr", annealed_only(sweep_points(folder), "t"), fixed={"a": 0.0, "b": 0.0}, n_boot=0)
    assert fit.columns["peak_lr"] == "peak_lr"
    assert set(fit.points["peak_lr"]) == {folder.specs[0].lr}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_the_rate_of_an_older_points_table_is_the_one_at_the_step(folder, tmp_path, suffix):
    old = sweep_points(folder).astype({"flops": float, "flops_6nd": float}).drop(columns="peak_lr")
    write_table(old.rename(columns={"lr_at_step": "lr"}), tmp_path / f"t{suffix}")
    with pytest.warns(UserWarning, match="column lr, the decayed rate at each row's step, is read as lr_at_step"):
        table = read_table(tmp_path / f"t{suffix}")
    assert table["lr_at_step"].tolist() == old["lr_at_step"].tolist() and "lr" not in table
    with pytest.raises(TableError, match=r"no column for peak_lr .*lr_at_step"):
        fit_law("step_law_lr", table)


def test_every_column_of_the_table_is_described():
    assert all(column_named(name).heading for name in POINTS_COLUMNS)
    assert [column_named(name).heading for name in ("tokens", "loss", "peak_lr", "warmth_of_day")] == [
        "D (tokens)", "loss (nats/token)", "peak learning rate", "warmth of day",
    ]  # fmt: skip
