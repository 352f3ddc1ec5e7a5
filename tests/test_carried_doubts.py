"""Doubts that go with every answer from a fit: ladders at one D/N, far budgets, resamples that did not converge, bad rows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.fit import fit_law
from testbed.analysis.fit.approaches import side_by_side
from testbed.analysis.fit.diagnostics import carried, doubts, far_answer
from testbed.analysis.fit.diagnostics.finding import SENTENCES
from testbed.analysis.report.fit.fit_figures import save_figures
from testbed.analysis.report.fit.plane import optimum
from testbed.analysis.report.study.tables import fit_table
from testbed.errors import TableError
from tests.helpers.command_line import command


def loss(n, tokens):
    return 1.8 + 480 * n**-0.35 + 2100 * tokens**-0.37


def made(n, tokens, noise=0.002, seed=0):
    n, tokens = np.broadcast_arrays(np.asarray(n, float), np.asarray(tokens, float))
    drawn = np.random.default_rng(seed).normal(size=n.shape)
    return pd.DataFrame({"params": n, "tokens": tokens, "val_loss": loss(n, tokens) * np.exp(noise * drawn)})


def grid(**options):
    n, tokens = np.meshgrid(np.geomspace(2e7, 2e9, 5), np.geomspace(1e9, 6.4e10, 4), indexing="ij")
    return made(n.ravel(), tokens.ravel(), **options)


SIZES = np.geomspace(1e7, 1e10, 14)
LADDERS = {
    "one ratio": made(SIZES, 20 * SIZES),
    "nearly one ratio": made(SIZES, SIZES * np.tile([19.0, 21.0], 7)),
    "another line": made(SIZES, 20 * SIZES * (SIZES / 1e8) ** 0.2),
}


def found(table, law="hoffmann", n_boot=50):
    return {finding.code: finding for finding in fit_law(law, table, n_boot=n_boot).diagnostics(table)}


# --- ladders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LADDERS))
@pytest.mark.slow
def test_a_ladder_has_no_optimum(name):
    fit = fit_law("hoffmann", LADDERS[name], n_boot=50)
    line = next(doubt for doubt in doubts(fit) if doubt.trigger == "line")
    assert {"A", "B", "alpha", "beta"} <= set(line.parameters)
    for ask in (lambda: fit.frontier(1e22), lambda: fit.solve(2.2), lambda: fit.solve(2.2, n=1e9)):
        with pytest.raises(TableError, match=r"cannot be told apart.*Train runs off that line, such as"):
            ask()
    message = found(LADDERS[name])["unidentified"].message
    assert "runs off that line" in message
    assert "span more" not in message
    said = {
        "one ratio": "D/N is 20 in all 14",
        "nearly one ratio": "D/N is about 20 in all 14",
        "another line": "(D ~ N^1.20)",
    }
    assert said[name] in message


def test_a_law_of_compute_and_borrowed_exponents_need_no_second_ratio():
    table = LADDERS["one ratio"].assign(flops=6 * SIZES * 20 * SIZES)
    assert "line" not in {doubt.trigger for doubt in doubts(fit_law("henighan_c", table, n_boot=50))}
    borrowed = fit_law("hoffmann", table, fixed={"A": 480.0, "alpha": 0.35}, n_boot=50)
    assert borrowed.frontier(1e22)["n"].notna().all()
    assert "line" not in {doubt.trigger for doubt in doubts(fit_law("hoffmann", grid(), n_boot=50))}


def test_the_approaches_refuse_a_ladder_and_carry_doubts():
    ways = side_by_side(LADDERS["one ratio"], n_boot=50)
    assert ways.table.empty
    assert set(ways.refused) == {"1, envelope", "2, IsoFLOP", "3, hoffmann"}
    assert "unidentified" in {finding.code for finding in ways.warnings}
    assert side_by_side(grid(), n_boot=50).table["a"].notna().all()


def test_a_page_of_a_ladder_draws_no_optimum_and_no_interval(tmp_path):
    fit = fit_law("hoffmann", LADDERS["one ratio"], n_boot=50)
    assert optimum(fit, np.array([1e19, 1e20])).empty
    (written,) = save_figures(fit, tmp_path / "isoloss.html", figure="isoloss")
    assert written.exists()
    fit = replace(fit, resamples_converged=np.zeros(50, bool))
    assert "not known" in str(fit_table(fit, fit.conf_int(), 0.9))


# --- intervals, distance, other doubts -------------------------------------------------------------


def test_resamples_that_did_not_converge_give_no_interval():
    fit = fit_law("hoffmann", grid(), n_boot=50)
    lost = replace(fit, resamples_converged=np.arange(50) < 20)
    assert np.isnan(lost.interval("alpha")).all()
    assert lost.frontier(1e22)[["n_low", "n_high", "loss_low"]].isna().all(axis=None)
    assert np.isnan(lost.solve(2.3)["low"])
    assert lost.to_dict()["intervals"]["alpha"] == [None, None]
    assert "unidentified" in {finding.code for finding in carried(lost)}
    assert not np.isnan(replace(fit, resamples_converged=np.arange(50) < 40).interval("alpha")).any()


def test_a_frontier_says_how_far_it_extrapolates():
    fit = fit_law("hoffmann", grid(), n_boot=50)
    best = fit.frontier([1e20, 1e26])
    largest = float((6 * grid()["params"] * grid()["tokens"]).max())
    assert best["gap_decades"].to_numpy() == pytest.approx([0.0, np.log10(1e26 / largest)])
    (far,) = far_answer(fit, "the optimum", best["n"], best["tokens"])
    assert f"{np.log10(1e26 / largest):.1f} decades" in far.message
    assert far_answer(fit, "the optimum", best["n"][:1], best["tokens"][:1]) == ()
    (odd,) = far_answer(fit, "the model", [1e7], [1e12])
    assert "D/N of 1e+05, where the fitted runs have 0.5 to 3.2e+03" in odd.message


@pytest.mark.slow
def test_the_commands_carry_the_doubts(tmp_path):
    narrow = made(np.repeat([1e8, 1.5e8, 2e8, 3e8], 4), np.tile(np.geomspace(1e9, 6e10, 4), 4), noise=0.01)
    narrow.to_csv(tmp_path / "narrow.csv", index=False)
    fit = tmp_path / "narrow.json"
    fit.write_text(json.dumps(fit_law("hoffmann", narrow, n_boot=50).to_dict()))
    said = json.loads(command("frontier", fit, "--flops", "1e27", "--json").stdout)
    assert {"unidentified", "far-target"} <= {each["code"] for each in said["warnings"]}
    assert said["gap_decades"] > 5
    assert "unidentified" in command("solve", fit, "--loss", "2.6", "--params", "2e8").stdout
    assert "unidentified" in command("suggest", tmp_path / "narrow.csv", "--target", "1B,20B").stdout
    fit.write_text(json.dumps(fit_law("hoffmann", LADDERS["one ratio"], n_boot=50).to_dict()))
    refused = command("frontier", fit, "--flops", "1e22")
    assert refused.returncode == 2
    assert "runs off that line" in refused.stderr


# --- rows that are no finished runs, far rows ------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "rows", "keep"),
    [
        ({"status": ["done"] * 18 + ["running", "crashed"]}, 2, "status == 'done'"),
        ({"State": ["finished"] * 19 + ["failed"]}, 1, "State == 'finished'"),
        ({"crashed": [False] * 17 + [True] * 3}, 3, "crashed == false"),
        ({"step": [1000] * 18 + [400, 980], "max_steps": [1000] * 20}, 2, "step >= 0.99 * max_steps"),
        ({"epoch": [1.0] * 18 + [0.4, 0.5], "num_train_epochs": [1.0] * 20}, 2, "epoch >= 0.99 * num_train_epochs"),
    ],
)
def test_unfinished_rows_are_named_and_kept(columns, rows, keep):
    table = grid().assign(**columns)
    finding = found(table)["unfinished"]
    assert finding.evidence["rows"] == rows
    assert f'--where "{keep}"' in finding.message
    assert "row" in finding.message
    assert fit_law("hoffmann", table, n_boot=0).nobs == 20
    assert "unfinished" not in found(table.head(17))


def test_tokens_short_of_the_plan():
    table = grid()
    planned = table["tokens"] * np.where(table.index >= 18, 2.0, 1.0)
    assert found(table.assign(target_tokens=planned))["unfinished"].evidence["rows"] == 2
    assert "unfinished" not in found(table.assign(target_tokens=table["tokens"]))


def test_repeated_data_lead_to_the_law_that_knows_them():
    table = grid().assign(unique_tokens=lambda t: np.minimum(t["tokens"], 5e9))
    finding = found(table)["repeated-data"]
    assert "--law muennighoff" in finding.message
    assert '--where "tokens <= 4 * unique_tokens"' in finding.message
    assert finding.evidence["most_epochs"] == pytest.approx(12.8)
    assert "repeated-data" not in found(grid().assign(unique_tokens=lambda t: t["tokens"]))
    by_epochs = grid().assign(epochs=np.tile([1, 2, 8, 16], 5))
    assert '--where "epochs <= 4"' in found(by_epochs)["repeated-data"].message


@pytest.mark.parametrize("law", ["hoffmann", "kaplan"])
@pytest.mark.slow
def test_far_rows_are_named_by_their_row(law):
    table = grid()
    table.loc[7, "val_loss"] = 7.6
    table.loc[13, "val_loss"] = 10.8
    finding = found(table, law)["far-rows"]
    assert finding.message.startswith("Rows 8 and 14 lie 1")
    assert "above the law" in finding.message
    assert '--where "val_loss < ' in finding.message
    assert "far-rows" not in found(grid(), law)


def test_a_far_row_keeps_its_number_in_a_filtered_table_and_may_lie_below():
    table = grid()
    table.loc[12, "val_loss"] *= 0.6
    finding = found(table.drop(index=[0, 1, 2]))["far-rows"]
    assert finding.message.startswith("Row 13 lies 40 % below")


def test_rounding_is_no_finding():
    exact = grid(noise=0.0)
    table = pd.concat(
        [exact, made([3e7, 5e7, 4e8, 7e8] * 5, np.geomspace(1e9, 5e10, 20), noise=0.0)], ignore_index=True
    )
    table["val_loss"] *= 1 + 1e-9 * np.sin(np.arange(40)) * (table["params"] / 2e7) ** 0.5
    assert {"uneven-scatter", "residual-trend", "biased-at-the-largest", "far-rows"} & set(found(table)) == set()


def test_a_full_grid_is_not_taken_for_checkpoints():
    assert "checkpoints-as-runs" not in found(grid())
    checkpoints = made(np.repeat(np.geomspace(2e7, 2e9, 5), 12), np.tile(np.linspace(1e9, 1.2e10, 12), 5))
    assert "checkpoints-as-runs" in found(checkpoints)


def test_every_finding_ends_with_a_command():
    remedy = ("--", "testbed ", "{remedy}", "pandas", "{keep}", "{option}")
    without = [code for code, text in SENTENCES.items() if not any(part in text[-130:] for part in remedy)]
    assert without == []
