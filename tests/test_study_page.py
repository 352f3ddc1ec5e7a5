"""The figures and tables of a study's page: laws of further columns, the axes of the grid, and what is computed once."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.analysis.forecast import fit_laws
from testbed.analysis.report.law_line import law_line
from testbed.analysis.report.study.study_figures import isoflop, loss_against, residuals
from testbed.analysis.report.study.tables import plan_table
from testbed.config import ForecastSettings as Settings
from testbed.config import load_config
from testbed.study import settle
from tests.helpers.planted_sweep import TRUTH, planted_points


def drawn_laws(chart):
    """The laws that a figure has lines of."""
    tree = chart.to_dict()
    return {row["law"] for rows in tree["datasets"].values() for row in rows if "law" in row}


def test_a_line_is_the_law_at_its_columns():
    points = planted_points("hoffmann", noise=1e-9)
    fit = fit_laws(points, Settings(laws=("hoffmann",), bootstrap=100), "planted")["hoffmann"]
    line = law_line(fit, {"n": np.array([1e4, 1e5]), "tokens": 1e6})
    truth = TRUTH["hoffmann"]
    expected = truth["E"] + truth["A"] * line["n"] ** -truth["alpha"] + truth["B"] * 1e6 ** -truth["beta"]
    assert line["loss"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6)
    assert line["tokens"].tolist() == [1e6, 1e6]


@pytest.mark.slow
def test_a_law_of_further_columns_has_residuals_but_no_curve():
    """Its third column has no value along an axis of N or D; the page is drawn all the same."""
    points = planted_points("hoffmann", noise=0.005)
    points = points.assign(
        unique_tokens=points["tokens"] / 2, flops_6nd=6 * points["n_params_non_embedding"] * points["tokens"]
    )
    fits = fit_laws(points, Settings(laws=("hoffmann", "kaplan_c"), beside=("muennighoff",), bootstrap=100), "planted")
    n = "n_params_non_embedding"
    for along in ("n", "tokens"):
        assert drawn_laws(loss_against(points, fits, along, n, None)) == {"hoffmann", "kaplan_c"}
    assert drawn_laws(isoflop(points, fits, n)) == {"hoffmann", "kaplan_c"}
    assert drawn_laws(residuals(points, fits, n)) == {"hoffmann", "kaplan_c", "muennighoff"}


def test_the_plan_has_a_row_a_horizon_and_names_each_rung_once(tiny_toml):
    _, made = settle(load_config(tiny_toml))
    table = plan_table(made.runs, dict.fromkeys((run.run_id for run in made.runs), 2**20))
    assert table.titles[:4] == ("role", "width", "depth", "N")
    assert table.titles[-1] == "memory"
    grid = [row for row in table.rows if "target" not in row]
    assert [row[0] for row in grid] == ["grid", "", ""] * 3
    assert [row[1] for row in grid] == ["8", "", "", "16", "", "", "24", "", ""]
    assert [row[table.titles.index("D")] for row in grid[:3]] == ["10.2k", "20.5k", "41k"]
    assert {row[table.titles.index("seeds")] for row in grid} == {"2", ""}
    assert all(len(row) == len(table.titles) for row in table.rows)


def test_the_plan_shows_what_the_grid_varies(tiny_toml):
    _, made = settle(load_config(tiny_toml, ["grid.vary.train.lr=[0.003, 0.006]", "target.at.train.lr=[0.006]"]))
    table = plan_table(made.grid)
    assert table.titles[1] == "peak_lr"
    assert [row[1] for row in table.rows if row[1]] == ["0.003"] * 3 + ["0.006"] * 3
    assert {row[table.titles.index("seeds")] for row in table.rows} == {"2", ""}
