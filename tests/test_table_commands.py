"""The commands on anyone's table, as their users call them."""

import json

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.fit import Fit
from testbed.analysis.laws import LAWS
from tests.helpers.command_line import command
from tests.helpers.planted import PLANTED, noisy

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables")
    points = noisy(LAWS["hoffmann"], PLANTED["hoffmann"], 0.004)
    points = points.rename(columns={"n": "N", "tokens": "D", "loss": "val_loss"}).assign(
        source="ours", C=lambda t: 6 * t["N"] * t["D"]
    )
    other = points.assign(source="theirs", val_loss=points["val_loss"] + 1, run="x" + points["run"])
    pd.concat([points, other]).to_csv(path / "runs.csv", index=False)
    points.to_parquet(path / "runs.parquet")
    points.to_json(path / "runs.jsonl", orient="records", lines=True)
    end = command("fit", path / "runs.parquet", "-o", path / "fit.json", "--bootstrap", "200")
    assert end.returncode == 0, end.stderr
    return path


def test_a_fit_from_every_format_and_a_selection(folder):
    fits = [
        json.loads(command("fit", folder / name, "--bootstrap", "40", "--json", *more).stdout)
        for name, more in (
            ("runs.csv", ("--where", "source == 'ours'")),
            ("runs.parquet", ()),
            ("runs.jsonl", ("--n", "N", "--d", "D", "--loss", "val_loss", "--run", "run")),
        )
    ]
    for fit in fits:
        assert fit["columns"] == {"n": "N", "tokens": "D", "loss": "val_loss", "run": "run"}
        assert fit["params"] == pytest.approx(fits[0]["params"], rel=1e-9)
        assert (fit["n_points"], fit["n_runs"]) == (42, 42)
        assert set(fit["intervals"]) == {"A", "B", "E", "alpha", "beta"}
        assert all(low <= fit["params"][name] <= high for name, (low, high) in fit["intervals"].items())
        assert {"code", "message", "evidence"} <= set(fit["warnings"][0])


def test_a_fit_tells_its_columns_and_what_it_was_of(folder):
    end = command("fit", folder / "runs.parquet", "--bootstrap", "40")
    words = " ".join(end.stdout.split())
    assert "hoffmann L = E + A/N^alpha + B/D^beta (arXiv:2203.15556, eq. 2)" in words
    assert "columns: n = N, tokens = D, loss = val_loss, run = run" in words
    assert "42 points of 42 runs, objective" in words


def test_options_of_a_fit(folder):
    held = json.loads(
        command(
            "fit", folder / "runs.parquet", "--fix", "E=1.8", "--objective", "ls", "--interval", "bca", "--json"
        ).stdout
    )
    assert held["params"]["E"] == 1.8
    assert (held["loss"], held["fixed"]) == ("ls", {"E": 1.8})
    other = json.loads(
        command("fit", folder / "runs.parquet", "--law", "kaplan_c", "--json", "--column", "flops=6 * N * D").stdout
    )
    assert other["columns"]["flops"] == "6 * N * D"


@pytest.mark.slow
def test_predictions_of_a_written_fit(folder):
    fit = Fit.from_dict(json.loads((folder / "fit.json").read_text()))
    said = json.loads(command("predict", folder / "fit.json", "--params", "7B", "--tokens", "1.4T", "--json").stdout)
    expected = fit.get_prediction({"n": [7e9], "tokens": [1.4e12]}).summary_frame(0.9).iloc[0]
    assert said["loss"] == expected["mean"]
    assert said["interval"] == [expected["obs_ci_lower"], expected["obs_ci_upper"]]
    assert set(said["parts"]) == {"parameters", "misspecification", "noise", "extrapolation"}
    assert said["gap_decades"] == pytest.approx(np.log10(7e9 * 1.4e12 / (1e9 * 1e11)), rel=1e-6)
    assert said["interval"][0] < said["loss"] < said["interval"][1]
    table = json.loads(
        command("predict", folder / "fit.json", "--at", folder / "runs.parquet", "--level", ".5", "--json").stdout
    )
    assert len(table["rows"]) == 42
    assert table["rows"][0]["level"] == 0.5
    assert "7B" in command("predict", folder / "fit.json", "--params", "7B", "--tokens", "1.4T").stdout


@pytest.mark.slow
def test_the_frontier_and_its_inverse(folder):
    best = json.loads(command("frontier", folder / "fit.json", "--flops", "1e22", "--json").stdout)
    assert 6 * best["n"] * best["tokens"] == pytest.approx(1e22)
    assert best["tokens_per_param_low"] < best["tokens_per_param"] < best["tokens_per_param_high"]
    cost = json.loads(command("solve", folder / "fit.json", "--loss", best["loss"], "--json").stdout)
    assert (cost["column"], cost["value"]) == ("flops", pytest.approx(1e22, rel=1e-6))
    tokens = json.loads(
        command("solve", folder / "fit.json", "--loss", best["loss"], "--params", best["n"], "--json").stdout
    )
    assert tokens["value"] == pytest.approx(best["tokens"], rel=1e-6)
    never = command("solve", folder / "fit.json", "--loss", "0.5")
    assert "never reaches 0.5" in never.stdout


@pytest.mark.slow
def test_comparing_and_back_testing(folder):
    compared = json.loads(
        command(
            "compare",
            folder / "runs.parquet",
            "--laws",
            "hoffmann,kaplan_n",
            "--params",
            "7B",
            "--tokens",
            "1T",
            "--json",
        ).stdout
    )
    assert compared["recommended"] == "hoffmann"
    assert {row["law"] for row in compared["laws"]} == {"hoffmann", "kaplan_n"}
    tested = json.loads(command("backtest", folder / "runs.parquet", "--json").stdout)
    whole = next(row for row in tested["summary"] if row["method"] == "kriging" and row["distance"] == "all")
    assert 0.5 <= whole["coverage"] <= 1
    assert {"width", "score", "error"} <= set(whole)
    assert "of hoffmann covered" in " ".join(command("backtest", folder / "runs.parquet").stdout.split())


def test_the_three_approaches(folder):
    found = json.loads(command("approaches", folder / "runs.parquet", "--bootstrap", "50", "--json").stdout)
    by = {row["approach"]: row for row in found["approaches"]}
    fitted = by["3, hoffmann"]
    assert fitted["a"] + fitted["b"] == pytest.approx(1)
    assert fitted["a_low"] < fitted["a"] < fitted["a_high"]
    assert set(by) | set(found["refused"]) == {"1, envelope", "2, IsoFLOP", "3, hoffmann"}


@pytest.mark.slow
def test_the_library(folder):
    listed = json.loads(command("laws", "--json").stdout)
    assert [law["name"] for law in listed] == list(LAWS)
    shown = command("laws").stdout
    assert all(name in shown for name in LAWS)
    assert "gamma" in command("laws", "farseer").stdout


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("fit", "{}/runs.parquet", "--law", "hofmann"), "unknown law 'hofmann'"),
        (("fit", "{}/runs.parquet", "--where", "__import__('os')"), "character 11: found '('"),
        (("fit", "{}/runs.parquet", "--where", "N > 1e30"), "none of the 42 rows has N > 1e30"),
        (("fit", "{}/runs.parquet", "--where", "M > 1"), "M"),
        (("fit", "{}/runs.parquet", "--fix", "E"), "--fix: found 'E'; accepted: NAME=NUMBER"),
        (("fit", "{}/runs.parquet", "--level", "2"), "--level: found 2"),
        (("fit", "{}/runs.parquet", "--law", "muennighoff"), "no column for unique_tokens"),
        (("predict", "{}/fit.json"), "say what for"),
        (("predict", "{}/fit.json", "--params", "7B"), "no column for tokens"),
        (("predict", "{}/none.json", "--params", "7B"), "no such file"),
        (("predict", "{}/runs.jsonl.json", "--params", "1"), "no such file"),
        (("frontier", "{}/fit.json"), "give the training FLOPs"),
        (("frontier", "{}/fit.json", "--flops", "lots"), "--flops"),
        (("solve", "{}/fit.json", "--loss", "2", "--params", "1B", "--tokens", "1T"), "all but one"),
        (("compare", "{}/runs.parquet", "--laws", "hofmann"), "unknown law"),
        (("plot", "{}/fit.json", "-o", "{}/fit.doc"), "found the ending .doc"),
    ],
)
def test_mistakes_are_told_in_one_message(folder, arguments, match):
    end = command(*(a.format(folder) for a in arguments))
    assert end.returncode == 2, end.stdout
    assert match in " ".join(end.stderr.split())
    assert "Traceback" not in end.stderr


def test_a_changed_fit_is_refused(folder, tmp_path):
    document = json.loads((folder / "fit.json").read_text())
    document["points"]["loss"][0] *= 1.01
    (tmp_path / "fit.json").write_text(json.dumps(document))
    end = command("predict", tmp_path / "fit.json", "--params", "7B", "--tokens", "1T")
    assert end.returncode == 2
    assert "the points are not those that were fitted" in end.stderr
