"""The certificate's answer, its words and its figure, from planted brackets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from testbed.analysis.certificate.certificate import FILE, BracketFindings, Certificate, GridFindings, read_certificate
from testbed.analysis.certificate.collapse import Collapse, Stray
from testbed.analysis.certificate.coordinate_check import judge_coordinates
from testbed.analysis.certificate.corners import judge_corners
from testbed.analysis.certificate.learning_rates import Shift, excess_at_rungs
from testbed.analysis.certificate.outliers import Outlier, Outliers
from testbed.analysis.report.certificate.bracket_figure import brackets as figure
from testbed.analysis.report.certificate.certificate_sentences import (
    certificate_sentences,
    corners_table,
    rungs_table,
    verdict_sentence,
)
from testbed.analysis.report.style import configured
from testbed.errors import FolderError
from testbed.files import write_json
from testbed.records import as_json
from tests.helpers.brackets import PLACES, brackets, coordinate_table

STEADY = {"block": 0.05, "mlp": -0.1, "logits": 0.7}


def certificate(table, powers=None, **parts):
    judged = judge_corners(table, 0.9)
    trend, rungs = excess_at_rungs(judged, PLACES, 0.9) or (None, ())
    facts = {
        "study": "planted", "config_hash": "c" * 64, "made_at": "2026-01-01T00:00:00+00:00", "level": 0.9,
        "batch_tokens": 512, "lr": 0.006,
    }  # fmt: skip
    transfer = judge_coordinates(coordinate_table(powers or STEADY))
    corners = tuple(corner for corner, _ in judged)
    found = BracketFindings(corners=corners, trend=trend, rungs=rungs, runs=56, flops=10**12)
    grid = GridFindings(**({"shifts": (), "collapse": None, "outliers": None} | parts))
    return Certificate(**facts, brackets=found, transfer=transfer, grid=grid)


def words(made):
    return " ".join([verdict_sentence(made), *certificate_sentences(made, "runs/planted")])


def test_a_rule_at_the_optimum_is_right():
    made = certificate(brackets(lambda *_: 0.05, noise=0.0005))
    assert made.answer == "right"
    assert "The learning rates are right: they cost at most 1 % of the loss at every rung of the grid." in words(made)
    assert made.worst.excess < 0.001


def test_a_rule_that_leaves_two_percent_is_wrong():
    made = certificate(brackets(lambda *_: 0.8, noise=0.0005))
    assert made.answer == "wrong"
    assert "NOT right" in words(made)
    assert made.worst.excess == pytest.approx(0.03 * 0.8**2, rel=0.1)
    assert "times its rate would be best there" in words(made)


def test_one_seed_is_told_to_be_one():
    assert "With one seed" in words(certificate(brackets(lambda *_: 0.0, noise=0.001, seeds=1)))
    assert "With one seed" not in words(certificate(brackets(lambda *_: 0.0, noise=0.001, seeds=2)))


def test_noise_leaves_the_answer_open():
    made = certificate(brackets(lambda *_: 0.3, noise=0.02, rng=np.random.default_rng(2)))
    assert made.answer == "open"
    assert "do not show whether" in words(made)


def test_a_rule_that_does_not_carry_over_is_wrong_whatever_the_brackets_say():
    made = certificate(brackets(lambda *_: 0.0, noise=0.0005), powers={"block": 0.05, "mlp": 1.2, "logits": 0.1})
    assert made.answer == "wrong"
    assert "the change of mlp grows with width (power +1.20" in words(made)
    assert "does NOT transfer to other widths" in words(made)


def test_growing_logits_are_told_of_a_rule_that_is_right():
    made = certificate(brackets(lambda *_: 0.0, noise=0.0005))
    assert "The change of logits grows with width (power +0.70" in words(made)


@pytest.mark.parametrize(
    ("optimum", "end", "advice"), [(1.6, "ends at 2.8", "add 5.6"), (-1.6, "ends at 0.35", "add 0.17")]
)
def test_an_optimum_beyond_the_bracket_asks_for_a_wider_one(optimum, end, advice):
    made = certificate(brackets(lambda *_: optimum))
    assert made.answer == "wrong"  # by more than a percent at least
    assert made.rungs == ()
    for part in (end, advice, "the excess loss is at least", "widen the brackets and repeat"):
        assert part in words(made)
    assert all("at least" in row[-2] for row in corners_table(made).rows)


def test_a_rule_whose_own_rate_diverges_is_wrong():
    table = brackets(lambda *_: -0.5)
    table.loc[table["factor"] >= 1, "loss"] = math.nan
    made = certificate(table)
    assert made.answer == "wrong"
    assert "a run diverged at the rule's own rate" in words(made)


def test_what_a_finished_sweep_says_comes_with_what_to_do():
    stray = Stray(width=24, share=0.6, departure=0.1, error=0.01, z=10.0)
    run = Outlier(what="run", run="w0016-x", width=16, tokens=320_000, init_seed=2, departure=0.05, z=8.0)
    cell = Outlier(what="cell", run=None, width=48, tokens=640_000, init_seed=None, departure=-0.03, z=-9.0)
    made = certificate(
        brackets(lambda *_: 0.0),
        collapse=Collapse(rungs=4, runs=12, shares=(0.1, 0.6, 1.0), spread=0.05, noise=0.01, strays=(stray,)),
        outliers=Outliers(law="kaplan", runs=12, cells=12, noise=0.005, misfit=0.004, found=(run, cell)),
    )
    told = words(made)
    assert "width 24 does not collapse with the others: it is off by +10.0 % of the fall at 60 % of the trunk" in told
    assert (
        "w0016-x (width 16 at 320k tokens) disagrees with the other seeds of its cell (+5.00 %, 8.0 standard errors)"
        in told
    )
    assert "grid.init_seeds = 2" in told
    assert "testbed tune runs/planted --widths 48" in told


def test_exponents_that_hang_on_the_rule_are_named():
    interval = {name: {"low": 0.4, "high": 0.46, "level": 0.9} for name in ("alpha", "beta", "E")}
    params = {"alpha": 0.43, "beta": 0.42, "E": 0.44}
    shift = Shift(law="hoffmann", params=params, intervals=interval, corrected=params | {"beta": 0.36}, bias=0.002)
    assert shift.bent == ("beta",)
    told = words(certificate(brackets(lambda *_: 0.2, noise=0.0005), shifts=(shift,)))
    assert "Some exponents of its laws are partly an effect of its learning rates." in told
    assert (
        "beta from 0.420 (0.400 to 0.460) to 0.360, out of its interval; the excess moves its forecast by +0.20 %"
        in told
    )
    assert "partly" not in words(certificate(brackets(lambda *_: 0.2, noise=0.0005)))


def test_tables_have_a_row_a_corner_and_a_row_a_rung():
    made = certificate(brackets(lambda *_: 0.2, noise=0.001))
    assert len(corners_table(made).rows) == 4
    assert len(rungs_table(made).rows) == len(PLACES)
    assert rungs_table(made).rows[-1][-1] == "extrapolated"
    for table in (corners_table(made), rungs_table(made)):
        assert all(len(row) == len(table.titles) for row in table.rows)


def layers(panel):
    return [layer["mark"]["type"] for layer in panel["layer"]]


def test_the_figure_has_a_panel_a_corner_with_curve_band_and_rule():
    drawn = configured(figure(certificate(brackets(lambda *_: 0.2, noise=0.001)))).to_dict()
    assert len(drawn["concat"]) == 4
    assert layers(drawn["concat"][0]) == ["rect", "line", "line", "rule", "point"]
    assert drawn["concat"][0]["title"]["text"] == "width 16, 320k tokens"


def test_the_figure_shows_diverged_runs_and_draws_no_curve_without_an_optimum():
    table = brackets(lambda *_: 1.6)
    table.loc[table["factor"] > 1.41, "loss"] = math.nan
    drawn = configured(figure(certificate(table))).to_dict()
    assert layers(drawn["concat"][0]) == ["rule", "point", "point"]


def flat(made):
    """The certificate as it was written before it had parts."""
    tree = as_json(made)
    del tree["format"]
    parts = {"brackets": tree.pop("brackets"), "grid": tree.pop("grid")}
    empty = {"corners": [], "trend": None, "rungs": [], "shifts": [], "collapse": None, "outliers": None, "runs": 0}
    return tree | empty | {"flops": 0} | (parts["brackets"] or {}) | (parts["grid"] or {})


def test_a_certificate_of_the_flat_form_is_read(tmp_path):
    outliers = Outliers(law="kaplan", runs=12, cells=12, noise=0.005, misfit=0.004, found=())
    whole = certificate(brackets(lambda *_: 0.2, noise=0.001), outliers=outliers)
    alone = whole.model_copy(update={"grid": None})
    checked = whole.model_copy(update={"brackets": None, "transfer": None})
    for made in (whole, alone, checked):
        write_json(tmp_path / FILE, flat(made))
        assert read_certificate(tmp_path, made.config_hash) == made
        made.write(tmp_path)
        assert read_certificate(tmp_path, made.config_hash) == made


def test_a_certificate_of_a_newer_version_is_refused(tmp_path):
    made = certificate(brackets(lambda *_: 0.2))
    write_json(tmp_path / FILE, as_json(made) | {"format": 3, "more": 1})
    with pytest.raises(
        FolderError, match="found format 3, this version of testbed reads up to format 2: update testbed"
    ):
        read_certificate(tmp_path, made.config_hash)


def test_a_certificate_without_any_part_says_that_nothing_is_known():
    made = certificate(brackets(lambda *_: 0.2)).model_copy(update={"brackets": None, "transfer": None, "grid": None})
    assert made.answer == "open"
    assert words(made).endswith(
        "No learning rate was bracketed, so it is not known whether the rule is right on these rungs."
    )
