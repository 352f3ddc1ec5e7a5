"""The figures of a fit: for every kind of law, true to the fit's numbers, and written whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.laws import LAWS
from testbed.analysis.report.fit.fit_figures import figure_names, figures_of, save_figures
from testbed.analysis.report.fit.parameters import free_parameters, profile_curve
from testbed.analysis.report.fit.plane import budgets_of, optimum
from testbed.analysis.report.fit.response import DRAWN, fitted_rows
from testbed.analysis.report.style import brief, letter, log_ticks, ticks
from testbed.errors import ConfigError, FolderError
from tests.helpers.planted import PLANTED, noisy

KINDS = ["hoffmann", "kaplan_c", "gadre_error", "tissue", "fernandes", "gao_bon", "step_law_lr"]
TARGET = {"n": 3e10, "tokens": 6e11, "loss": 1.97}


@cache
def fitted(law: str) -> Fit:
    return fit_law(law, noisy(LAWS[law], PLANTED[law], 0.003), n_boot=60)


@cache
def chart(law: str, name: str) -> dict[str, Any]:
    return figures_of(fitted(law), only=name)[name].to_dict()


def tables(specification: dict[str, Any]) -> list[pd.DataFrame]:
    """Every table that a chart holds."""
    return [pd.DataFrame(rows) for rows in specification["datasets"].values()]


def the_table(specification: dict[str, Any], *columns: str) -> pd.DataFrame:
    """The only table with these columns and no others."""
    found = [table for table in tables(specification) if set(table) == set(columns)]
    assert len(found) == 1, [list(table) for table in tables(specification)]
    return found[0]


# --- every law --------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.slow
def test_every_law_has_its_response_and_residuals_drawn(law: str) -> None:
    fit = fitted(law)
    for name in ("response", "residuals"):
        svg = vl_convert.vegalite_to_svg(figures_of(fit, only=name)[name].to_dict())
        assert "NaN" not in svg
        assert svg.count('aria-roledescription="point"') >= min(fit.nobs, 20), "the points are drawn"


@pytest.mark.parametrize("law", KINDS)
@pytest.mark.slow
def test_all_figures_of_every_kind_of_law_render(law: str) -> None:
    fit = fitted(law)
    charts = figures_of(fit)
    assert tuple(charts) == figure_names(fit)
    for name, found in charts.items():
        assert vl_convert.vegalite_to_png(found.to_dict(), scale=1).startswith(b"\x89PNG"), name
        assert found.description.endswith("."), f"{name} has a caption"


def test_figures_that_make_no_sense_are_not_offered() -> None:
    plane = {"isoloss", "isoflop"}
    assert plane <= set(figure_names(fitted("hoffmann")))
    for law in ("kaplan_c", "gadre_error", "step_law_lr", "fernandes", "tissue"):
        assert not plane & set(figure_names(fitted(law)))
    assert "extrapolation" in figure_names(fitted("kaplan_c"))
    assert "extrapolation" not in figure_names(fitted("gadre_error"))
    bare = fit_law("kaplan_c", noisy(LAWS["kaplan_c"], PLANTED["kaplan_c"], 0.003), n_boot=0)
    assert "corner" not in figure_names(bare)
    assert "interval" not in figures_of(bare, only="profile")["profile"].description.split("level")[-1]
    with pytest.raises(ConfigError, match=r"figure 'isoflop': kaplan_c does not have it; accepted: response, extrap"):
        figures_of(bare, only="isoflop")


# --- what is drawn is what was fitted ---------------------------------------------------------------


def test_contours_lie_where_the_law_has_their_loss() -> None:
    fit = fitted("hoffmann")
    lines = [t for t in tables(chart("hoffmann", "isoloss")) if set(t) == {"loss", "n", "tokens"} and len(t) > 100]
    assert len(lines) == 1
    assert lines[0]["loss"].nunique() == 8
    np.testing.assert_allclose(fit.predict(lines[0]), lines[0]["loss"], rtol=1e-3)
    frontier = next(
        t for t in tables(chart("hoffmann", "isoloss")) if "compute-optimal" in t.get("line", pd.Series()).tolist()
    )
    exact = fit.frontier(frontier["flops"].to_numpy()[[0, -1]])
    np.testing.assert_allclose(frontier["n"].iloc[[0, -1]], exact["n"], rtol=0.01)


def test_points_of_the_plane_are_the_rows() -> None:
    fit = fitted("hoffmann")
    drawn = the_table(chart("hoffmann", "isoloss"), "n", "tokens", "loss", "fitted", "residual", "flops")
    np.testing.assert_allclose(drawn["loss"], np.exp(fit.rows.y), rtol=1e-12)
    np.testing.assert_allclose(drawn["residual"], 100 * np.expm1(fit.resid), atol=1e-9)


def test_the_minimum_of_a_slice_is_the_laws() -> None:
    fit = fitted("hoffmann")
    curves = the_table(chart("hoffmann", "isoflop"), "n", "loss", "slice")
    lows = the_table(chart("hoffmann", "isoflop"), "flops", "n", "tokens", "loss", "slice")
    exact = fit.frontier(lows["flops"].to_numpy())
    np.testing.assert_allclose(lows["n"], exact["n"], rtol=0.01)
    np.testing.assert_allclose(lows["loss"], exact["loss"], rtol=1e-6)
    for label, curve in curves.groupby("slice"):
        low = lows[lows["slice"] == label].iloc[0]
        assert curve["loss"].min() == pytest.approx(low["loss"], rel=1e-3)
        np.testing.assert_allclose(
            curve["loss"], fit.predict(n=curve["n"], tokens=low["flops"] / 6 / curve["n"]), rtol=1e-9
        )


def test_points_of_a_slice_are_off_its_curve_by_their_residual() -> None:
    fit = fitted("hoffmann")
    points = the_table(
        chart("hoffmann", "isoflop"), "n", "tokens", "loss", "fitted", "residual", "flops", "slice", "observed"
    )
    lows = the_table(chart("hoffmann", "isoflop"), "flops", "n", "tokens", "loss", "slice").set_index("slice")["flops"]
    on_curve = fit.predict(n=points["n"], tokens=points["slice"].map(lows) / 6 / points["n"])
    np.testing.assert_allclose(100 * (points["loss"] / on_curve - 1), points["residual"], atol=1e-6)
    np.testing.assert_allclose(100 * (points["observed"] / points["fitted"] - 1), points["residual"], atol=1e-6)


def test_budgets_are_those_the_runs_were_planned_at() -> None:
    planned = np.array([1e18, 1e19, 1e20])
    flops = np.concatenate([np.repeat(planned, 6), [3e18, 4e19]])
    budgets, near = budgets_of(flops)
    np.testing.assert_allclose(budgets, planned, rtol=1e-9)
    assert near < 0.05
    spread, near = budgets_of(np.geomspace(1e18, 1e21, 7))  # no two alike
    assert len(spread) >= 2
    assert near == 0.2


def test_a_law_without_an_optimum_has_no_frontier() -> None:
    columns = {"n": np.geomspace(1e6, 1e9, 30), "tokens": np.tile([1e8, 1e9, 1e10], 10)}
    loss = 1.5 + 1e4 * columns["tokens"] ** -0.5 + 0 * columns["n"]
    fit = fit_law("hoffmann", pd.DataFrame({**columns, "loss": loss}), n_boot=20, fixed={"A": 1e-300, "alpha": 1.0})
    charts = figures_of(fit, only="isoloss") | figures_of(fit, only="extrapolation") | figures_of(fit, only="isoflop")
    assert len(optimum(fit, np.array([1e18]))) == 0
    assert "no compute-optimal" in charts["isoloss"].description
    assert "tokens per parameter, as in the largest runs" in charts["extrapolation"].description
    assert "crosses" not in charts["isoflop"].to_dict()
    for found in charts.values():
        vl_convert.vegalite_to_svg(found.to_dict())


def test_residuals_are_in_the_units_of_the_fit() -> None:
    percent, plain = chart("hoffmann", "residuals"), chart("gadre_error", "residuals")
    assert "observed / fitted - 1 (%)" in json.dumps(percent)
    assert "observed - fitted error" in json.dumps(plain)
    fit = fitted("gadre_error")
    drawn = the_table(plain, "loss", "error", "fitted", "residual")
    np.testing.assert_allclose(drawn["error"] - drawn["fitted"], fit.resid, atol=1e-12)


def test_residuals_are_coloured_by_the_column_that_is_asked_for() -> None:
    found = figures_of(fitted("hoffmann"), colour_by="tokens", only="residuals")["residuals"].to_dict()
    assert {layer["encoding"]["color"].get("field") for layer in found["layer"] if "color" in layer["encoding"]} == {
        "tokens"
    }
    with pytest.raises(
        ConfigError, match="colour_by: found 'width'; accepted: n, tokens, loss, fitted, residual, flops"
    ):
        figures_of(fitted("hoffmann"), colour_by="width", only="residuals")


def test_points_moved_to_the_medians_keep_their_residuals() -> None:
    fit = fitted("muennighoff")
    rows = fitted_rows(fit)
    panels = [t for t in tables(chart("muennighoff", "response")) if "observed" in t]
    assert len(panels) == 3
    for name, panel in zip(fit.law.columns, panels, strict=True):
        there = {other: rows[other].median() for other in fit.law.columns} | {name: panel[name].to_numpy()}
        np.testing.assert_allclose(np.log(panel["loss"] / fit.predict(there)), fit.resid, atol=1e-9)
        np.testing.assert_allclose(panel["observed"], rows["loss"], rtol=1e-12)


@pytest.mark.slow
def test_a_profile_rises_from_the_estimate_past_the_thresholds() -> None:
    fit = fitted("hoffmann")
    ends = fit.conf_int(0.05, "profile")
    for p in free_parameters(fit):
        curve = profile_curve(fit, p)
        lowest = curve.loc[curve["rise"].idxmin(), "value"]
        assert lowest == pytest.approx(fit.theta[p.name], rel=1e-9)
        threshold = NormalDist().inv_cdf(0.975) ** 2
        below = curve[curve["rise"] < threshold]["value"]
        assert ends["low"][p.name] <= below.min()
        assert below.max() <= ends["high"][p.name]
        assert curve["rise"].iloc[0] > threshold
        assert curve["rise"].iloc[-1] > threshold
    lines = [table for table in tables(chart("hoffmann", "profile")) if "label" in table]
    np.testing.assert_allclose(lines[0]["rise"], [0.9889, 2.7055, 3.8415], atol=1e-4)
    bands = [table for table in tables(chart("hoffmann", "profile")) if "end" in table]
    np.testing.assert_allclose([band["end"][0] for band in bands], fit.conf_int(0.1)["high"], rtol=1e-9)


@pytest.mark.slow
def test_a_parameter_at_zero_is_profiled_on_its_one_side() -> None:
    tokens, noise = np.geomspace(1e7, 1e11, 40), np.random.default_rng(3).normal(size=40)
    loss = (30 * tokens**-0.1 - 0.2) * np.exp(0.003 * noise)  # bends the wrong way for a constant above 0
    fit = fit_law("henighan_d", pd.DataFrame({"tokens": tokens, "loss": loss}), n_boot=30)
    assert fit.at_zero == ("E",)
    curve = profile_curve(fit, next(p for p in fit.law.parameters if p.name == "E"))
    assert curve["value"].iloc[0] == 0
    assert curve["rise"].iloc[0] == 0
    assert curve["rise"].iloc[-1] > 3
    assert "estimate of E is 0" in figures_of(fit, only="profile")["profile"].description
    vl_convert.vegalite_to_svg(figures_of(fit, only="profile")["profile"].to_dict())


@pytest.mark.slow
def test_the_corner_plot_holds_the_resamples() -> None:
    fit = fitted("hoffmann")
    draws = the_table(chart("hoffmann", "corner"), *fit.theta, "converged")
    np.testing.assert_allclose(draws[list(fit.theta)], fit.resamples, rtol=1e-12)
    assert len(chart("hoffmann", "corner")["concat"]) == 25
    held = fit_law("hoffmann", noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.003), n_boot=30, fixed={"E": 1.82})
    assert len(figures_of(held, only="corner")["corner"].to_dict()["concat"]) == 16, "what is held is not drawn"


def test_the_extrapolation_is_the_prediction_along_the_frontier() -> None:
    fit = fitted("hoffmann")
    found = figures_of(fit, level=0.8, target=TARGET, only="extrapolation")["extrapolation"]
    band = the_table(found.to_dict(), "flops", "loss", "high", "band")
    reach = 6 * fit.rows.columns["n"] * fit.rows.columns["tokens"]
    assert band["flops"].max() == pytest.approx(100 * reach.max())
    best = fit.frontier(band["flops"].iloc[[0, -1]])
    exact = fit.get_prediction(best[["n", "tokens"]], 0.8).summary_frame()
    np.testing.assert_allclose(band["loss"].iloc[[0, -1]], exact["obs_ci_lower"], rtol=1e-6)
    np.testing.assert_allclose(band["high"].iloc[[0, -1]], exact["obs_ci_upper"], rtol=1e-6)
    aim = fit.get_prediction({name: TARGET[name] for name in ("n", "tokens")}, 0.8).summary_frame().iloc[0]
    assert f"{aim['obs_ci_lower']:.4g} to {aim['obs_ci_upper']:.4g} around {aim['mean']:.4g}" in found.description
    assert "reached, 1.97" in found.description
    with pytest.raises(ConfigError, match="target: no tokens; hoffmann needs n, tokens"):
        figures_of(fit, target={"n": 1e9}, only="extrapolation")


@pytest.mark.slow
def test_of_very_many_points_some_are_drawn_and_the_caption_says_so() -> None:
    rng = np.random.default_rng(0)
    n, tokens = 10 ** rng.uniform(6, 9, 3000), 10 ** rng.uniform(8, 11, 3000)
    loss = (1.8 + 400 / n**0.34 + 2000 / tokens**0.37) * np.exp(0.01 * rng.normal(size=3000))
    fit = fit_law("hoffmann", pd.DataFrame({"n": n, "tokens": tokens, "loss": loss}), n_boot=20)
    for name in ("isoloss", "residuals", "response", "extrapolation"):
        found = figures_of(fit, only=name)[name]
        assert "Of 3,000 points 2,000 are drawn, chosen at random." in found.description
        assert max(len(table) for table in tables(found.to_dict())) <= DRAWN


@pytest.mark.slow
def test_the_same_fit_gives_the_same_figures() -> None:
    fit = fitted("kaplan_c")
    first, second = (json.dumps({k: c.to_dict() for k, c in figures_of(fit).items()}) for _ in range(2))
    assert re.sub(r'"view_\d+"', "", first) == re.sub(r'"view_\d+"', "", second)


# --- files ------------------------------------------------------------------------------------------


def test_a_page_is_one_file_without_a_network(tmp_path: Path) -> None:
    path = tmp_path / "fit.html"
    assert save_figures(fitted("kaplan_c"), path) == [path]
    page = path.read_text(encoding="utf-8")
    own, _ = page.split("<script>", 1)
    assert "http" not in own.replace("http://www.w3.org/1998/Math/MathML", "").replace("http-equiv", "")
    assert "kaplan_c" in own and "90 % interval" in own and "standard error" in own
    for name in figure_names(fitted("kaplan_c")):
        assert f'<div id="{name}">' in own
    specifications = json.loads(re.search(r"^const figures = (.*);$", page, re.MULTILINE)[1])
    assert specifications["response"]["description"] in own.replace("&#39;", "'")
    assert not re.search(r"<(script|link)[^>]*(src|href)=", page.split("const figures")[0].split("<script>")[0])


def test_what_diagnostics_find_stands_on_the_page(tmp_path: Path) -> None:
    fit = fit_law("hoffmann", noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.003).iloc[::5], n_boot=30)
    found = fit.diagnostics()
    assert found, "nine runs are too few for a clean bill"
    save_figures(fit, tmp_path / "fit.html", figure="residuals")
    page = (tmp_path / "fit.html").read_text(encoding="utf-8")
    assert all(f"{finding.code}: " in page for finding in found)


def test_pictures_and_folders(tmp_path: Path) -> None:
    fit = fitted("kaplan_c")
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    for ending, start in starts.items():
        path = tmp_path / f"one.{ending}"
        assert save_figures(fit, path, figure="response") == [path]
        assert path.read_bytes().startswith(start)
    written = save_figures(fit, tmp_path / "all", figure="response")
    assert {path.name for path in written} == {"index.html", "response.svg", "response.png"}
    assert all(path.exists() for path in written)


def test_a_picture_needs_to_know_of_what(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a .png holds one figure; say which \(--figure response, extrapolation"):
        save_figures(fitted("kaplan_c"), tmp_path / "all.png")
    with pytest.raises(ConfigError, match=r"found the ending .gif; accepted: .html, .svg, .png, .pdf, or a folder"):
        save_figures(fitted("kaplan_c"), tmp_path / "all.gif", figure="response")
    with pytest.raises(ConfigError, match="figure 'pairs': kaplan_c does not have it"):
        save_figures(fitted("kaplan_c"), tmp_path / "all.html", figure="pairs")
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(FolderError, match="cannot write"):
        save_figures(fitted("kaplan_c"), tmp_path / "taken" / "one.svg", figure="response")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


# --- the look ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"), [(1e6, 1e10), (1.2e18, 1.3e22), (2.05, 3.6), (0.56, 2.2), (40.0, 900.0), (1e-7, 1e3), (3.0, 3.01)]
)
def test_logarithmic_axes_have_a_few_round_ticks(low: float, high: float) -> None:
    found = log_ticks(low, high)
    assert 2 <= len(found) <= 8
    assert found == sorted(set(found))
    assert low <= found[0] <= found[-1] <= high
    assert all(len(f"{tick:.10g}".replace(".", "").replace("e", "").strip("0+-")) <= 4 for tick in found)


def test_ticks_keep_off_the_ends() -> None:
    assert ticks([0.0, 10.0], False, 6) == [0, 2, 4, 6, 8, 10]
    assert ticks([0.0, 10.0], False, 6, inset=0.1) == [2, 4, 6, 8]


def test_letters_and_numbers() -> None:
    assert [letter(name) for name in ("alpha", "alpha_N", "beta2", "A", "eps", "gap2", "E_start")] == [
        "α", "α_N", "β2", "A", "ε", "gap2", "E_start",
    ]  # fmt: skip
    assert [brief(value) for value in (4870.4, 9.3e6, -2.06e-7, 0.0123, 0.0)] == [
        "4870",
        "9.3e6",
        "-2.06e-7",
        "0.0123",
        "0",
    ]


def test_the_figures_need_neither_torch_nor_the_training_wing() -> None:
    code = (
        "import sys, testbed.analysis.report.fit.fit_figures\n"
        "heavy = {'torch', 'transformers', 'datasets', 'testbed.training'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_charts_are_altair_charts_that_a_notebook_shows() -> None:
    assert all(isinstance(found, alt.TopLevelMixin) for found in figures_of(fitted("kaplan_c")).values())
