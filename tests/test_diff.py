"""Two recipes by their laws: multipliers and crossings against those of planted laws, and what cannot be compared."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.fit import fit_law
from testbed.analysis.fit.comparison.recipes import compare_recipes, sentences
from testbed.analysis.report.recipes.recipe_page import save_page
from testbed.cli.app import app
from testbed.errors import ConfigError, TableError
from testbed.files import write_json
from testbed.sharing.archive import pack
from tests.helpers.finished import finish_by_law, sweep_of
from tests.helpers.sweeps import TINY

TRUTH = {"A": 30.0, "B": 900.0, "E": 1.2, "alpha": 0.35, "beta": 0.45}
CHEAPER = TRUTH | {"A": 18.0, "B": 1400.0, "E": 1.25}  # better when small, worse when large


def table(seed=0, noise=0.003, **changed):
    """5 sizes x 4 horizons x 3 seeds by a law; noise of each run and of each loss, relative."""
    law, rng, rows = TRUTH | changed, np.random.default_rng(seed), []
    for n in (3e3, 1e4, 3e4, 1e5, 3e5):
        for k in range(3):
            shared = noise * rng.normal()
            for tokens in (3e5, 1e6, 3e6, 1e7):
                loss = law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * tokens ** -law["beta"]
                loss *= np.exp(shared + 0.3 * noise * rng.normal())
                rows.append({"run": f"{n}-{k}", "N": n, "D": tokens, "loss": loss})
    return pd.DataFrame(rows)


def frontier(law, flops):
    """The least loss for 6 N D = flops, in closed form (arXiv:2203.15556, eq. 4)."""
    a, b = law["alpha"], law["beta"]
    n = (a * law["A"] / (b * law["B"])) ** (1 / (a + b)) * (np.asarray(flops) / 6) ** (b / (a + b))
    return law["E"] + law["A"] * n**-a + law["B"] * (np.asarray(flops) / 6 / n) ** -b


def true_multiplier(first, second, flops):
    grid = np.geomspace(1e6, 1e20, 200_001)
    return float(np.exp(np.interp(-frontier(first, flops), -frontier(second, grid), np.log(grid)))) / flops


@cache
def fitted(seed=0, n_boot=100, **options):
    return fit_law("hoffmann", table(seed, **options), n_boot=n_boot, seed=seed)


def test_multipliers_of_laws_without_noise_are_exact():
    pair = [fitted(noise=0.0, n_boot=20, **law) for law in (TRUTH, CHEAPER)]
    compared = compare_recipes(*pair)
    for row in compared.by_compute.to_dict("records"):
        assert row["multiplier"] == pytest.approx(true_multiplier(TRUTH, CHEAPER, row["flops"]), rel=1e-4)
        assert row["loss_first"] == pytest.approx(frontier(TRUTH, row["flops"]), rel=1e-6)
        assert row["loss_second"] == pytest.approx(frontier(CHEAPER, row["flops"]), rel=1e-6)
    for row in compared.by_loss.to_dict("records"):
        assert frontier(TRUTH, row["flops_first"]) == pytest.approx(row["loss"], rel=1e-5)
        assert frontier(CHEAPER, row["flops_second"]) == pytest.approx(row["loss"], rel=1e-5)
        assert row["multiplier"] == pytest.approx(row["flops_second"] / row["flops_first"], rel=1e-9)
    assert compared.parameters["difference"].tolist() == pytest.approx([-12, 500, 0.05, 0, 0], abs=1e-3)
    at = compared.crossing.flops
    assert frontier(TRUTH, at) == pytest.approx(frontier(CHEAPER, at), rel=1e-6)


@pytest.mark.slow
def test_intervals_of_multiplier_and_crossing_keep_their_promise():
    """90 % intervals on 20 pairs of simulated sweeps: fewer than 14 hits have a chance below 0.1 % if they are right."""
    crossing = np.geomspace(1e10, 1e16, 100_001)
    truth = crossing[np.argmin(np.abs(frontier(TRUTH, crossing) - frontier(CHEAPER, crossing)))]
    hits = {"multiplier": 0, "crossing": 0, "difference": 0}
    for seed in range(20):
        pair = fitted(2 * seed, 60, **TRUTH), fitted(2 * seed + 1, 60, **CHEAPER)
        compared = compare_recipes(*pair, seed=seed)
        _, low, high = compared.multiplier(3e12)
        hits["multiplier"] += low <= true_multiplier(TRUTH, CHEAPER, 3e12) <= high
        hits["crossing"] += compared.crossing.low <= truth <= compared.crossing.high
        row = compared.parameters.set_index("parameter").loc["E"]
        hits["difference"] += row["difference_low"] <= 0.05 <= row["difference_high"]
    assert min(hits.values()) >= 14, hits


def test_a_recipe_against_itself_is_worth_once_its_compute():
    fit = fitted()
    compared = compare_recipes(fit, fit)
    for flops in (1e10, 1e13):
        value, low, high = compared.multiplier(flops)
        assert value == pytest.approx(1, abs=1e-9) and low < 1 < high  # draws of the two are not the same
    assert compared.parameters["difference"].abs().max() == 0
    assert (compared.parameters["difference_low"] < 0).all() and (compared.parameters["difference_high"] > 0).all()


def test_swapping_the_recipes_inverts_the_multiplier():
    pair = fitted(0), fitted(1, A=20.0)
    value, _, _ = compare_recipes(*pair).multiplier(1e12)
    other, _, _ = compare_recipes(*pair[::-1]).multiplier(1e12 * value)
    assert value > 1e-9 and value * other == pytest.approx(1, rel=1e-4)


@pytest.mark.slow
def test_a_crossing_beyond_the_data_and_none_at_all_are_told_apart():
    beyond = compare_recipes(fitted(0), fitted(1, **CHEAPER), ("wide", "deep"))
    assert not beyond.crossing.inside and beyond.crossing.better == "wide"
    assert (
        "no crossing within the data of both" in sentences(beyond)[1]
        and "beyond it wide is better" in sentences(beyond)[1]
    )
    inside = compare_recipes(fitted(0), fitted(1, A=24.0, B=1500.0, alpha=0.36), ("wide", "deep"))
    apart = compare_recipes(fitted(0), fitted(1, E=1.3, A=40.0), ("wide", "deep"))
    assert apart.crossing.flops is None and apart.crossing.better == "wide"
    assert "do not cross" in sentences(apart)[1]
    assert inside.crossing.flops is None or inside.crossing.low <= inside.crossing.flops <= inside.crossing.high


def test_a_loss_that_the_other_never_reaches_costs_more_than_can_be_said():
    compared = compare_recipes(fitted(0, E=1.0), fitted(1, E=2.5), ("good", "bad"))
    value, low, _ = compared.multiplier(1e13)
    assert value == np.inf and low > 1
    assert "more than 1000 times the compute" in sentences(compared)[0]
    text = json.dumps(compared.to_dict(), allow_nan=False)
    assert json.loads(text)["by_compute"][-1]["multiplier"] is None


def test_laws_without_a_frontier_and_fits_without_resamples_are_refused():
    fit = fitted()
    with pytest.raises(ConfigError, match="accepted: at least 20"):
        compare_recipes(fit, fitted(n_boot=0))
    with pytest.raises(ConfigError, match="two laws, hoffmann and kaplan"):
        compare_recipes(fit, fit_law("kaplan", table(), n_boot=50))
    tokens_only = fit_law("hestness", table().rename(columns={"N": "size"}), n_boot=50)
    with pytest.raises(ConfigError, match="accepted: a law of loss by n and tokens"):
        compare_recipes(tokens_only, tokens_only)


# --- through the command -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Two finished sweeps on the same tokens, one with another law; an archive, a table and a fit of the first."""
    folder = tmp_path_factory.mktemp("diff")
    plain, _ = sweep_of(TINY, folder / "plain")
    other, _ = sweep_of(
        TINY.replace('name = "tiny"', 'name = "other"').replace("warmup_steps = 5", "warmup_steps = 9"), folder / "b"
    )
    longer, _ = sweep_of(TINY.replace("seq_len = 32", "seq_len = 64"), folder / "longer")
    finish_by_law(plain, plain.specs)
    finish_by_law(other, other.specs, A=20.0)
    finish_by_law(longer, longer.specs)
    pack(plain.path, folder / "plain.zip")
    table().to_csv(folder / "[red]table.csv", index=False)
    write_json(folder / "fit.json", fitted().to_dict())
    return folder


def diff(capsys, *arguments):
    app(["diff", *map(str, arguments), "--bootstrap", "60"], standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.slow
def test_two_sweeps_of_the_same_tokens(sides, capsys, tmp_path):
    told = diff(capsys, sides / "plain", sides / "b", "-o", tmp_path / "page.html")
    assert "tiny:" in told and "other:" in told and "18 points of 6 runs" in told
    assert "not comparable" not in told and "unknown-data" not in told
    page = (tmp_path / "page.html").read_text()
    assert "Compute multiplier" in page and "https://cdn" not in page
    found = json.loads(diff(capsys, sides / "plain", sides / "b", "--json"))
    assert found["names"] == ["tiny", "other"] and len(found["parameters"]) == 5
    assert all(row["multiplier"] < 1 for row in found["by_loss"])  # the other's A is smaller


@pytest.mark.slow
def test_an_archive_is_as_good_as_its_folder(sides, capsys):
    folder = json.loads(diff(capsys, sides / "plain", sides / "b", "--json"))
    archive = json.loads(diff(capsys, sides / "plain.zip", sides / "b", "--json"))
    assert folder == archive


def test_what_is_not_comparable_is_said(sides, capsys):
    assert "not comparable: validation data is" in " ".join(diff(capsys, sides / "plain", sides / "longer").split())
    told = " ".join(diff(capsys, sides / "plain", sides / "[red]table.csv").split())
    assert "unknown-data" in told and "N is n_params_non_embedding in tiny and N in" in told
    assert "_red_table" in told  # a name is never read as markup


def test_fits_and_tables(sides, capsys):
    found = json.loads(diff(capsys, sides / "fit.json", sides / "[red]table.csv", "--json"))
    assert found["crossing"]["flops"] is None or found["parameters"][0]["first"] == found["parameters"][0]["second"]
    with pytest.raises(ConfigError, match="--law: found kaplan, but the fit given is of hoffmann"):
        diff(capsys, sides / "fit.json", sides / "plain", "--law", "kaplan")
    with pytest.raises(TableError, match="no such file"):
        diff(capsys, sides / "plain", sides / "nothing.csv")


def test_hostile_names_do_not_reach_the_page(tmp_path):
    fit = fitted()
    save_page(compare_recipes(fit, fit, ("</script><script>alert(1)</script>", "<b>")), tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text()
    assert "<script>alert" not in page and "<b>" not in page.split("<script>")[0]
    figures = page.split("const figures = ")[1].split("\n")[0]
    assert "alert(1)" in figures and not set("<>") & set(figures)
    with pytest.raises(ConfigError, match=r"accepted: \.html"):
        save_page(compare_recipes(fit, fit), tmp_path / "p.txt")
