"""What a finished sweep says of its own runs: curves that collapse, runs and cells that lie off."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.certificate.collapse import collapse
from testbed.analysis.certificate.outliers import find_outliers
from testbed.analysis.forecast import fit_laws
from testbed.config import ForecastSettings as Settings
from tests.helpers.planted_sweep import planted_points

WIDTHS = (16, 24, 32, 48)
SETTINGS = Settings(laws=("hoffmann",), bootstrap=100)


def trunks(noise=0.01, seeds=3, seed=0, tokens=None, widths=WIDTHS):
    """Stable losses of a law whose terms add up, so that normalised curves are one curve."""
    rng = np.random.default_rng(seed)
    tokens = np.geomspace(5e4, 1e6, 9) if tokens is None else tokens
    rows = []
    for width in widths:
        n = 36 * width**2
        for init in range(seeds):
            losses = 1.0 + 12 * n**-0.3 + 40 * np.asarray(tokens) ** -0.35 + noise * rng.normal(size=len(tokens))
            for at, loss in zip(tokens, losses, strict=True):
                rows.append(
                    {"run": f"{width}-{init}", "role": "grid", "phase": "stable", "width": width, "init_seed": init,
                     "n_params_non_embedding": n, "tokens": at, "loss": loss}
                )  # fmt: skip
    return pd.DataFrame(rows)


def bent(table, width, by):
    """One rung whose loss falls late: by a share of what is left of its fall in the middle of the trunk."""
    middle = (table["width"] == width) & table["tokens"].between(3e5, 9e5)
    return table.assign(loss=table["loss"] + by * middle)


def test_curves_of_one_law_collapse_exactly():
    found = collapse(trunks(noise=0.0))
    assert found.rungs == 4
    assert found.runs == 12
    assert found.spread == pytest.approx(0, abs=1e-12)
    assert found.shares[0] >= 0.1
    assert found.shares[-1] == 1.0


def test_noise_alone_names_no_rung():
    named = [bool(collapse(trunks(seed=seed)).strays) for seed in range(40)]
    assert sum(named) <= 2


@pytest.mark.parametrize("width", WIDTHS)
def test_a_rung_that_departs_is_named_and_no_other(width):
    found = collapse(bent(trunks(noise=0.003), width, 0.06))
    assert [stray.width for stray in found.strays] == [width]
    (stray,) = found.strays
    assert stray.departure > 0
    assert 0.3 < stray.share < 0.9
    assert stray.z == pytest.approx(stray.departure / stray.error)
    assert found.spread > 2 * found.noise


def test_runs_that_logged_at_other_tokens_are_compared_in_between():
    odd = trunks(noise=0.0, tokens=np.geomspace(4e4, 1.2e6, 11), widths=(24,))
    table = pd.concat([trunks(noise=0.002, widths=(16, 32, 48)), odd])
    found = collapse(table)
    assert len(found.shares) == 6
    assert not found.strays


def test_what_cannot_be_compared_is_not():
    table = trunks()
    assert collapse(table[table["width"] < 30]) is None  # two rungs
    assert collapse(table[table["init_seed"] == 0]) is None  # no seeds
    assert collapse(table[table["tokens"].isin(sorted(table["tokens"].unique())[-2:])]) is None
    assert collapse(table.assign(phase="annealed")) is None


# --- outliers ---------------------------------------------------------------------------------


def grid(noise=0.004, seed=0, seeds=3):
    points = planted_points("hoffmann", noise=noise, seed=seed, seeds=seeds)
    sizes = sorted(points["n_params_non_embedding"].unique())
    width = [16 * (1 + sizes.index(n)) for n in points["n_params_non_embedding"]]
    seed_of = points["run"].str.rsplit("-", n=1).str[-1].astype(int)
    return points.assign(width=width, init_seed=seed_of)


def found_in(points):
    return find_outliers(points, fit_laws(points, SETTINGS, "planted"), SETTINGS)


@pytest.mark.slow
def test_a_clean_grid_has_no_outliers():
    counts = [len(found_in(grid(seed=seed)).found) for seed in range(12)]
    assert sum(counts) <= 1


@pytest.mark.slow
def test_the_scatter_is_measured():
    assert np.mean([found_in(grid(noise=0.004, seed=seed)).noise for seed in range(8)]) == pytest.approx(
        0.004, rel=0.25
    )
    found = found_in(grid(noise=0.004))
    assert found.law == "hoffmann"
    assert found.runs == 15
    assert found.cells == 20
    assert found.misfit < 0.006


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_run_off_its_seeds_is_named(seeds):
    points = grid(seeds=seeds)
    off = (points["run"] == "grid-30000-1") & (points["tokens"] == 3e6)
    found = found_in(points.assign(loss=points["loss"] * np.where(off, 1.06, 1.0))).found
    assert [(o.what, o.run, o.init_seed, o.tokens) for o in found] == [("run", "grid-30000-1", 1, 3_000_000)]
    assert found[0].departure == pytest.approx(0.058, abs=0.015)


def test_a_cell_off_the_law_is_named_with_all_its_seeds():
    points = grid(noise=0.002)
    off = (points["n_params_non_embedding"] == 3e4) & (points["tokens"] == 1e6)
    found = found_in(points.assign(loss=points["loss"] * np.where(off, 1.03, 1.0))).found
    assert [(o.what, o.run, o.width, o.tokens) for o in found] == [("cell", None, 48, 1_000_000)]
    assert found[0].departure == pytest.approx(0.03, abs=0.01)


def test_a_grid_of_single_seeds_is_not_judged():
    assert found_in(grid(seeds=1)) is None


def test_few_cells_are_judged_by_their_seeds_alone():
    points = grid()
    sizes = sorted(points["n_params_non_embedding"].unique())[:2]
    few = points[points["n_params_non_embedding"].isin(sizes)]
    few = few[few["tokens"] < 5e6]  # six cells, five parameters
    assert found_in(few).misfit is None
