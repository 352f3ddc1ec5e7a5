"""A sweep too small for a law (one width, one run) has a page: its curves, and the reason why no law is fitted."""

import pytest
from typer.testing import CliRunner

from testbed.cli.app import app
from testbed.errors import TableError, TestbedError
from testbed.study import Study
from tests.helpers.finished import finish_by_law, sweep_of
from tests.helpers.sweeps import TINY

ALONE = TINY.partition("[target]")[0]


@pytest.mark.parametrize(
    "change",
    [
        ("[8, 16, 24]", "[16]"),
        ("tokens = [10_240, 20_480, 40_960]\ninit_seeds = [0, 1]", "tokens = [40_960]"),
        ("[8, 16, 24]\ntokens = [10_240, 20_480, 40_960]\ninit_seeds = [0, 1]", "[16]\ntokens = [40_960]"),
    ],
    ids=["one width", "one horizon", "one run"],
)
def test_the_page_has_the_curves_and_the_reason_in_the_place_of_the_law(change, tmp_path):
    sweep, _ = sweep_of(ALONE.replace(*change), tmp_path / "small")
    finish_by_law(sweep, sweep.specs)
    end = CliRunner().invoke(app, ["report", str(sweep.path)])
    assert end.exit_code == 0, end.output
    page = (sweep.path / "report/index.html").read_text()
    assert 'id="loss-curves"' in page
    assert "No law is fitted to these runs (" in page
    assert "parameters of hoffmann" in page
    assert (sweep.path / "report/loss-curves.svg").exists()
    with pytest.raises(TestbedError):  # what asks for the law itself is told why there is none
        Study(sweep).fit()


@pytest.mark.slow
def test_a_sweep_that_is_large_enough_has_its_law(tmp_path):
    sweep, _ = sweep_of(ALONE, tmp_path / "large")
    finish_by_law(sweep, sweep.specs)
    page = Study(sweep).report().read_text()
    assert "No law is fitted" not in page
    assert 'id="loss-against-n"' in page


def test_losses_that_are_gone_are_no_reason_to_write_no_page(tmp_path):
    sweep, _ = sweep_of(ALONE.replace("[8, 16, 24]", "[16]"), tmp_path / "small")
    finish_by_law(sweep, sweep.specs[:1])
    assert "No law is fitted" not in Study(sweep).report().read_text()  # half-way through: no law is due
    with pytest.raises(TableError, match="hoffmann"):
        finish_by_law(sweep, sweep.specs[1:])
        Study(sweep).fit()
