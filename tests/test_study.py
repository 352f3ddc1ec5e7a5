import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.config import load_config
from testbed.errors import ConfigError, FolderError, RunFailed, SealError
from testbed.records import RunSpec
from testbed.study import Study
from testbed.training.sweep import packs
from tests.helpers.command_line import command
from tests.helpers.sweeps import Quiet, fresh

pytestmark = pytest.mark.usefixtures("warm")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def finished(tiny_toml, tmp_path_factory):
    """The whole loop, step by step through the public class."""
    study = Study.create(load_config(tiny_toml), tmp_path_factory.mktemp("study") / "tiny")
    study.train("grid", Quiet())
    study.seal()
    study.train("target", Quiet())
    study.judge()
    study.report()
    return study


def test_the_loop_leaves_its_results_in_the_folder(finished):
    names = {p.name for p in finished.folder.path.iterdir()}
    assert {"config.toml", "plan.json", "runs", "forecast.json", "verdict.json", "points.csv", "report"} <= names
    forecast, verdict = finished.folder.forecast(), finished.folder.verdict()
    assert not forecast.after_the_fact
    assert forecast.config_hash == finished.folder.config.hash()
    assert set(verdict.observed_runs) == {s.run_id for s in finished.target}
    assert verdict.true_entropy == pytest.approx(finished.target[0].data.entropy)


def test_the_forecast_was_sealed_before_the_target_started(finished):
    sealed = finished.folder.forecast().sealed_at
    for spec in finished.target:
        assert finished.folder.run(spec).provenance()[0].started >= sealed


def test_every_step_can_be_repeated_and_changes_nothing(finished):
    def stamps():
        keep = ("forecast.json", "done.json", "evals.jsonl", "weights.safetensors", "spec.json")
        return {p: p.stat().st_mtime_ns for p in finished.folder.path.rglob("*") if p.name in keep}

    before = stamps()
    again = Study.open(finished.folder.path)
    again.train("grid", Quiet())
    assert again.seal() == finished.folder.forecast()
    again.train("target", Quiet())
    assert again.judge().error == finished.folder.verdict().error
    assert stamps() == before


def test_the_steps_cannot_be_taken_out_of_order(tiny_toml, tmp_path):
    study = Study.create(load_config(tiny_toml), tmp_path / "tiny")
    with pytest.raises(SealError, match="no forecast is sealed yet"):
        study.train("target", Quiet())
    with pytest.raises(FolderError, match="6 of 6 grid runs are not done"):
        study.seal()
    with pytest.raises(SealError, match="no forecast is sealed yet"):
        study.judge()


@pytest.mark.slow
def test_a_forecast_made_after_the_fact_says_so(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder.path, copy)
    (copy / "forecast.json").chmod(0o644)
    (copy / "forecast.json").unlink()
    study = Study.open(copy)
    assert study.seal().after_the_fact
    assert study.judge().after_the_fact
    page = study.report().read_text()
    assert "made after its target had been trained" in page
    for verb in ("predict", "validate"):
        assert "made after its target had been trained" in " ".join(command(verb, copy).stdout.split())


def test_a_tampered_forecast_is_not_judged(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder.path, copy)
    path = copy / "forecast.json"
    path.chmod(0o644)
    content = json.loads(path.read_text())
    content["interval"]["high"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(SealError, match="changed after it was sealed"):
        Study.open(copy).judge()


@pytest.mark.slow
def test_failed_runs_stop_the_loop_with_their_reasons_and_can_be_retried(tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "tiny")
    study = Study(sweep)
    broken = [sweep.run(spec) for spec in packs(sweep.of_role("grid"))[0]]
    for run in broken:
        run.path.mkdir(parents=True)
        run.fail("the disk was full", "trace")
    with pytest.raises(
        RunFailed, match=r"2 of 6 grid runs failed:\n.*the disk was full\n.*\nFix the cause .*--retry-failed"
    ):
        study.train("grid", Quiet())
    assert [sweep.run(s).state() for s in sweep.of_role("grid")].count("done") == 4
    study.train("grid", Quiet(), retry_failed=True)
    assert all(run.state() == "done" for run in broken)


def test_a_failed_run_is_tried_again_where_its_pack_is_trained_anyway(tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "tiny")
    first = sweep.run(packs(sweep.of_role("grid"))[0][0])
    first.path.mkdir(parents=True)
    first.fail("the disk was full", "trace")
    Study(sweep).train("grid", Quiet())
    assert {sweep.run(spec).state() for spec in sweep.of_role("grid")} == {"done"}
    assert first.failure() is None


@pytest.mark.slow
def test_a_configuration_without_a_target(tiny_toml, tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(re.sub(r"\[target\].*(?=\[forecast\])", "", tiny_toml.read_text(), flags=re.DOTALL))
    study = Study.create(load_config(path), tmp_path / "out")
    study.train("grid", Quiet())
    with pytest.raises(ConfigError, match=r"no \[target\]"):
        study.seal()
    assert "not identified" not in study.report().read_text()


# --- the page ---------------------------------------------------------------------------------


def test_the_page_is_one_file_that_needs_no_network(finished):
    page = (finished.folder.path / "report" / "index.html").read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert page.count("<script>") == 2
    for name in ("loss-curves", "loss-against-n", "loss-against-d", "isoflop", "residuals", "verdict"):
        assert f'id="{name}"' in page
        svg = (finished.folder.path / "report" / f"{name}.svg").read_text()
        assert svg.startswith("<svg")
        assert (finished.folder.path / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_tells_forecast_verdict_plan_and_provenance(finished):
    page = (finished.folder.path / "report" / "index.html").read_text()
    forecast, verdict = finished.folder.forecast(), finished.folder.verdict()
    for text in (
        f"{forecast.predicted:.4f}",
        f"{verdict.observed:.4f}",
        forecast.digest,
        forecast.config_hash,
        finished.grid[0].data.fingerprint,
        "<math",
        "last point",
        "power law in compute",
    ):
        assert text in page


@pytest.mark.slow
def test_the_page_escapes_what_it_shows(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder.path, copy)
    study = Study.open(copy)
    hostile = "<script>alert(1)</script>"
    run = study.folder.run(study.grid[0])
    run.fail(hostile, "")
    page = study.report().read_text()
    assert hostile not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


# --- the command line and the script ------------------------------------------------------------


def annealed(folder):
    import pandas as pd

    points = pd.read_csv(folder / "points.csv")
    return (
        points[points["phase"] == "annealed"]
        .sort_values(["run", "tokens"])[["run", "tokens", "flops", "loss"]]
        .to_numpy()
        .tolist()
    )


@pytest.mark.slow
def test_the_command_and_the_script_give_the_same_points(finished, tiny_toml, tmp_path):
    end = command("run", tiny_toml, "--out", tmp_path / "run")
    assert end.returncode == 0, end.stderr
    words = " ".join(end.stdout.split())
    assert "training the grid: 6 runs" in words
    assert "sealed" in words
    assert re.search(
        r"(inside|OUTSIDE) It reached \d\.\d{4} \(mean of 2 seeds\): the forecast is [+-]\d+\.\d\d % off", words
    )
    assert str(tmp_path / "run" / "report" / "index.html") in end.stdout.replace("\n", "")
    script = subprocess.run(
        [sys.executable, ROOT / "scripts" / "study.py", tiny_toml, tmp_path / "script"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert script.returncode == 0, script.stderr
    assert annealed(tmp_path / "run") == annealed(tmp_path / "script") == annealed(finished.folder.path)


def test_records_are_those_of_the_plan_for_every_run(finished):
    plan = json.loads((finished.folder.path / "plan.json").read_text())["runs"]
    assert len(plan) == 8
    for run_id, values in plan.items():
        spec = RunSpec.model_validate(values)
        done = json.loads((finished.folder.path / "runs" / run_id / "done.json").read_text())
        assert (done["steps"], done["tokens"], done["flops"]) == (spec.steps, spec.tokens, spec.flops)


@pytest.mark.slow
def test_reading_commands_print_json(finished):
    path = finished.folder.path
    status = json.loads(command("status", path, "--json").stdout)
    assert status["counts"] == {"done": 8, "running": 0, "paused": 0, "failed": 0, "to do": 0}
    assert json.loads(command("predict", path, "--json").stdout)["digest"] == finished.folder.forecast().digest
    assert json.loads(command("validate", path, "--json").stdout)["error"] == finished.folder.verdict().error
    fitted = json.loads(command("fit", path, "--law", "kaplan", "--json").stdout)
    assert fitted["law"] == "kaplan"
    assert fitted["n_points"] == 3 * 3 * 2
    whole = json.loads(command("fit", path, "--law", "kaplan", "--with-target", "--json").stdout)
    assert whole["n_points"] == 3 * 3 * 2 + 2
    assert "8 done" in command("status", path).stdout


@pytest.mark.slow
def test_strict_exits_with_one_on_a_miss(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder.path, copy)
    for spec in finished.target:
        evals = copy / "runs" / spec.run_id / "evals.jsonl"
        evals.write_text(re.sub(r'"loss":[0-9.]+', '"loss":900.0', evals.read_text()))
    assert command("validate", copy).returncode == 0
    missed = command("validate", copy, "--strict")
    assert missed.returncode == 1
    assert "OUTSIDE" in missed.stdout
    assert command("validate", finished.folder.path, "--strict").returncode == (
        0 if finished.folder.verdict().hit else 1
    )


@pytest.mark.slow
def test_a_plan_starts_nothing(tiny_toml, tmp_path):
    end = command("plan", tiny_toml, "--device", "cpu", cwd=tmp_path)
    assert end.returncode == 0, end.stderr
    assert "6 grid runs, 2 target runs" in end.stdout
    assert "design:" in end.stdout
    assert re.search(r"about: grid [0-9.]+ s, target", " ".join(end.stdout.split()))
    assert not list(tmp_path.iterdir())
    made = json.loads(command("plan", tiny_toml, "--json", "--no-calibrate", cwd=tmp_path).stdout)
    assert len(made["runs"]) == 8
    assert made["runs"][0]["horizons"][0].keys() >= {"tokens", "flops", "flops_6nd", "tokens_per_param", "steps"}


@pytest.mark.slow
def test_points_are_written_in_every_format(finished, tmp_path):
    for suffix in (".csv", ".parquet", ".jsonl"):
        end = command("points", finished.folder.path, "-o", tmp_path / f"p{suffix}")
        assert end.returncode == 0, end.stderr
        assert (tmp_path / f"p{suffix}").stat().st_size > 100
