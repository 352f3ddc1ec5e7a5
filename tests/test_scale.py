"""Large sweeps: what `status` shows of many runs, and that reading commands neither wait for torch nor grow beyond bounds."""

import json
import subprocess
import sys

import pytest

from scripts.bench_scale import EVALS, Timing, make_sweep, measure, table
from testbed.cli.app import app
from testbed.errors import FolderError
from testbed.training.store import SweepFolder
from testbed.training.store.sweep_points import sweep_points

pytestmark = pytest.mark.slow  # benches of scripts/: no part of the quick suite


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """80 finished runs of 50 evaluations, as the bench makes them."""
    path = tmp_path_factory.mktemp("scale") / "s"
    make_sweep(path, 80)
    return SweepFolder.open(path)


def status(capsys, path, *options):
    app(["status", str(path), *options], standalone_mode=False)
    return capsys.readouterr().out


def test_the_benchs_runs_are_what_a_plan_asks_for(sweep):
    points = sweep_points(sweep)
    assert len(points) == 80 * EVALS and points["run"].nunique() == 80
    assert set(points["phase"]) == {"stable", "decaying", "annealed"}
    spec = sweep.specs[0]
    steps = [e.step for e in sweep.run(spec).evals() if e.phase == "stable"]
    assert tuple(steps) == spec.trunk_evals
    assert [e.tokens for e in sweep.run(spec).evals() if e.phase == "annealed"] == [h.tokens for h in spec.horizons]


def test_of_many_runs_totals_and_those_that_need_a_look_are_shown(sweep, capsys):
    failed, paused, todo = (sweep.run(sweep.specs[k]) for k in (3, 5, 7))
    kept = {run: (run.path / "done.json").read_text() for run in (failed, paused, todo)}
    for run in kept:
        (run.path / "done.json").unlink()
    (todo.path / "spec.json").rename(todo.path / "elsewhere")
    failed.fail("the loss was not finite", "")
    try:
        told = status(capsys, sweep.path)
        everything = status(capsys, sweep.path, "--all")
        found = json.loads(status(capsys, sweep.path, "--json"))
    finally:
        (todo.path / "elsewhere").rename(todo.path / "spec.json")
        failed.forget_failure()
        for run, content in kept.items():
            (run.path / "done.json").write_text(content)
    assert failed.spec.run_id in told and paused.spec.run_id in told and todo.spec.run_id not in told
    assert "the loss was not finite" in told and "77 done, 1 paused, 1 failed, 1 to do" in told
    assert ["grid", "16", "2", "1", "1"] in [line.split() for line in told.splitlines()]  # runs, done, failed
    assert all(spec.run_id in everything for spec in sweep.specs)
    assert len(found["runs"]) == 80 and found["runs"][failed.spec.run_id] == "failed"


def test_reading_commands_never_import_torch(sweep, tmp_path):
    for command in (["status", str(sweep.path)], ["points", str(sweep.path), "-o", str(tmp_path / "p.csv")]):
        code = (
            f"import sys; from testbed.cli.app import app; app({command!r}, standalone_mode=False); print(*sys.modules)"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        loaded = set(told.stdout.split())
        assert "testbed.training.store.sweep_folder" in loaded and not loaded & {
            "torch",
            "transformers",
            "scipy",
            "altair",
        }, command


def test_a_damaged_line_among_thousands_is_named(sweep):
    path = sweep.run(sweep.specs[40]).path / "evals.jsonl"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    for damaged in (lines[17].replace('"step":', '"stop":'), lines[17][:40] + "\n", "\n", '{"a": 1}, {"b": 2}\n'):
        path.write_text("".join([*lines[:17], damaged, *lines[18:]]))
        try:
            with pytest.raises(FolderError, match=r"evals\.jsonl, line 18: not an evaluation"):
                sweep_points(sweep)
        finally:
            path.write_text(whole)
    path.write_text("".join(lines) + lines[0][:30])  # a line that a crash cut short
    assert len(sweep_points(sweep)) == 80 * EVALS
    path.write_text(whole)


def test_the_bench_measures_real_commands(sweep, capsys):
    timings = measure(sweep.path, 80, 1)
    assert [t.command for t in timings] == ["status", "points"]
    assert all(0 < t.cpu_seconds[0] < 60 and t.megabytes > 20 for t in timings)  # of a large parent it is more
    assert (sweep.path / "points.csv").read_text().count("\n") == 80 * EVALS + 1


def test_the_bench_holds_the_largest_folder_against_what_is_asked():
    fast = [Timing(c, runs, [s], [s], 300.0) for c in ("status", "points") for runs, s in ((1000, 1.0), (10_000, 2.5))]
    assert table(fast).count("| yes |") == 2
    slow = [Timing("status", 1000, [0.2], [0.2], 300.0), Timing("status", 10_000, [2.5], [2.5], 300.0)]
    assert "| 1.25 |" in table(slow) and "| NO |" in table(slow)  # worse than linear
