"""Learning-rate brackets: planted optima are found, their intervals hold, and what the rule leaves is told."""

from __future__ import annotations

import math

import numpy as np
import pytest

from testbed.analysis.certificate.corners import judge_corners
from testbed.analysis.certificate.learning_rates import excess_at_rungs, shifts
from testbed.analysis.certificate.valley import excesses, vertices
from testbed.analysis.forecast import fit_laws
from testbed.config import ForecastSettings as Settings
from testbed.errors import TableError
from tests.helpers.brackets import PLACES, brackets
from tests.helpers.planted_sweep import planted_points


def only(table, level=0.9):
    return [corner for corner, _ in judge_corners(table, level)]


@pytest.mark.parametrize("skew", [0.0, 0.008])
@pytest.mark.parametrize("optimum", [-0.4, 0.0, 0.3])
def test_a_planted_optimum_is_found(optimum, skew):
    for corner in only(brackets(lambda *_: optimum, skew=skew)):
        assert corner.status == "inside"
        assert corner.optimum == pytest.approx(math.exp(optimum), rel=1e-6)
        assert corner.curvature == pytest.approx(0.03, rel=1e-6)
        assert corner.skew == pytest.approx(skew, abs=1e-8)
        assert corner.excess == pytest.approx(0.03 * optimum**2 - skew * optimum**3, abs=1e-9)
        assert corner.interval.holds(corner.optimum)
        assert corner.seeds == 2


def test_every_corner_has_its_own_optimum_and_lowest_loss():
    table = brackets(lambda width, tokens: 0.1 * math.log(width / 16) - 0.2 * math.log(tokens / 320_000))
    found = {(c.width, c.tokens): math.log(c.optimum) for c in only(table)}
    assert found[16, 320_000] == pytest.approx(0, abs=1e-6)
    assert found[48, 1_280_000] == pytest.approx(0.1 * math.log(3) - 0.2 * math.log(4), abs=1e-6)
    for corner in only(table):
        assert corner.lowest <= min(corner.losses) + 1e-12


@pytest.mark.parametrize(("optimum", "skew"), [(0.0, 0.0), (0.35, 0.008)])
@pytest.mark.parametrize(("seeds", "tilt"), [(1, 0.0), (2, 0.0), (3, 0.08)])
def test_intervals_hold_nine_times_in_ten(optimum, skew, seeds, tilt):
    rng = np.random.default_rng(8)
    hits, excess_hits, total = 0, 0, 0
    for _ in range(40):
        for corner in only(brackets(lambda *_: optimum, skew=skew, noise=0.004, tilt=tilt, seeds=seeds, rng=rng)):
            total += 1
            hits += corner.interval.holds(math.exp(optimum))
            excess_hits += corner.excess_interval.holds(0.03 * optimum**2 - skew * optimum**3)
    assert 0.84 <= hits / total < 1.0
    assert 0.84 <= excess_hits / total < 1.0


def test_intervals_shrink_with_the_noise():
    def width(noise):
        corners = only(brackets(lambda *_: 0.1, noise=noise, rng=np.random.default_rng(3)))
        return np.mean([math.log(c.interval.high / c.interval.low) for c in corners])

    assert width(0.0005) < 0.3 * width(0.004)


@pytest.mark.parametrize(("optimum", "status"), [(1.6, "above"), (-1.6, "below")])
def test_an_optimum_beyond_the_bracket_is_told_on_its_side(optimum, status):
    table = brackets(lambda *_: optimum)
    for corner in only(table):
        assert corner.status == status
        assert corner.optimum is None
        assert corner.interval.holds(math.exp(optimum))
        assert (corner.interval.low is None) == (status == "below")
        assert (corner.interval.high is None) == (status == "above")
        assert 0 < corner.excess < 0.03 * optimum**2
    assert excess_at_rungs(judge_corners(table, 0.9), [("grid", 16, 320_000)], 0.9) is None


def test_a_run_that_diverges_is_a_rate_that_is_too_high():
    table = brackets(lambda *_: 0.1)
    table.loc[table["factor"].eq(2.8) & table["init_seed"].eq(1), "loss"] = math.nan  # one seed is enough
    for corner in only(table):
        assert corner.losses[-1] is None
        assert corner.status == "inside"
        assert corner.optimum == pytest.approx(math.exp(0.1), rel=1e-6)
    cliff = brackets(lambda *_: 1.6)
    cliff.loc[cliff["factor"] > 1.41, "loss"] = math.nan
    for corner in only(cliff):
        assert corner.status == "cliff"
        assert (corner.interval.low, corner.interval.high) == (1.0, 2.0)


def test_a_rule_whose_own_rate_diverges_is_wrong():
    table = brackets(lambda *_: -0.5)
    table.loc[table["factor"] >= 1, "loss"] = math.nan
    for corner in only(table):
        assert corner.rule_diverges
    assert not any(corner.rule_diverges for corner in only(brackets(lambda *_: -0.5)))


def test_brackets_of_runs_that_nearly_all_diverged_are_refused():
    table = brackets(lambda *_: 0.0)
    table.loc[(table["factor"] > 0.5) & (table["width"] == 48), "loss"] = math.nan
    with pytest.raises(
        TableError, match=r"width 48, 320000 tokens: runs diverged at 5 of 7 multiples .* lower train\.lr"
    ):
        judge_corners(table, 0.9)


def test_losses_without_an_upward_curve_name_no_optimum():
    rng = np.random.default_rng(1)
    table = brackets(lambda *_: 0.0, curvature=-0.03, noise=1e-4, rng=rng)
    assert {corner.status for corner in only(table)} <= {"below", "above", "unclear"}


def test_lowest_points_of_cubics():
    curves = np.array([[0.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, 1.0, 0.1], [1.0, -1.0, 0.0], [1.0, 0.1, 1.0]])
    found = vertices(curves)
    assert found[:2] == pytest.approx([0.0, 0.5])
    slope, bend, skew = curves[2]
    assert slope + 2 * bend * found[2] + 3 * skew * found[2] ** 2 == pytest.approx(0)
    assert np.isnan(found[3:]).all()
    assert excesses(curves)[:2] == pytest.approx([0.0, 0.25])


# --- over the grid ----------------------------------------------------------------------------


def planted_optimum(width, tokens):
    return 0.25 + 0.15 * math.log(width / 16) - 0.3 * math.log(tokens / 320_000)


def test_the_trend_and_the_excess_everywhere_follow_from_the_corners():
    trend, rungs = excess_at_rungs(judge_corners(brackets(planted_optimum, skew=0.005), 0.9), PLACES, 0.9)
    assert trend.width == pytest.approx(0.15, abs=1e-6)
    assert trend.tokens == pytest.approx(-0.3, abs=1e-6)
    for rung in rungs:
        best = planted_optimum(rung.width, rung.tokens)
        assert rung.optimum == pytest.approx(math.exp(best), rel=1e-6)
        assert rung.excess == pytest.approx(0.03 * best**2 - 0.005 * best**3, rel=1e-4)
        assert rung.inside == (rung.role == "grid")


@pytest.mark.slow
def test_intervals_of_the_trend_and_of_the_excess_hold():
    rng = np.random.default_rng(11)
    trends, hits, total = 0, 0, 0
    for _ in range(60):
        table = brackets(planted_optimum, noise=0.003, rng=rng)
        found = excess_at_rungs(judge_corners(table, 0.9), PLACES, 0.9)
        if found is None:
            continue
        trend, rungs = found
        trends += trend.tokens_interval.holds(-0.3)
        total += 1
        hits += sum(r.interval.holds(0.03 * planted_optimum(r.width, r.tokens) ** 2) for r in rungs) / len(rungs)
    assert total > 50
    assert trends / total >= 0.82
    assert hits / total >= 0.82


def test_a_bracket_at_one_width_knows_no_trend_in_width():
    table = brackets(planted_optimum)
    trend, rungs = excess_at_rungs(judge_corners(table[table["width"] == 16], 0.9), PLACES, 0.9)
    assert trend.width is None
    assert trend.width_interval is None
    assert trend.tokens == pytest.approx(-0.3, abs=1e-6)
    assert not next(rung for rung in rungs if rung.width == 48).inside


def test_a_wrong_rate_that_bends_a_law_is_taken_out_of_it():
    """Losses of a known law, raised by what a rule leaves that is wrong by more on larger models."""
    points = planted_points("hoffmann", noise=0.0005)
    sizes = sorted(points.loc[points["role"] == "grid", "n_params_non_embedding"].unique())
    points["width"] = [16 * (1 + sizes.index(n)) if n in sizes else 128 for n in points["n_params_non_embedding"]]

    def excess(width, tokens):
        return 0.03 * (0.8 * math.log(width / 16)) ** 2

    places = points[["role", "width", "tokens"]].drop_duplicates().itertuples(index=False)
    table = brackets(lambda width, tokens: 0.8 * math.log(width / 16))
    _, rungs = excess_at_rungs(judge_corners(table, 0.9), [tuple(place) for place in places], 0.9)
    bent = points.assign(
        loss=points["loss"] * np.exp([excess(w, d) for w, d in zip(points["width"], points["tokens"], strict=True)])
    )
    settings = Settings(laws=("hoffmann",), bootstrap=100)
    fits = fit_laws(bent, settings, "planted")
    (shift,) = shifts(bent, fits, rungs, settings, "planted", (1e6, 3e7))
    assert "alpha" in shift.bent
    assert shift.corrected["alpha"] == pytest.approx(0.35, abs=0.005)
    assert shift.params["alpha"] - 0.35 > 0.03
    assert shift.corrected["E"] == pytest.approx(1.2, abs=0.02)
    assert shift.params["E"] > 1.35
    assert -0.05 < shift.bias < 0  # the bent law expects too little of a target that is bent as well
    (alone,) = shifts(bent, fits, rungs, settings, "planted", None)
    assert alone.bias is None
