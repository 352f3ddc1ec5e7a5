"""Folders of sweeps, fits and records of any content: read as they are, or told; and nothing is left elsewhere."""

from __future__ import annotations

import copy
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from testbed.analysis.fit import fit_law
from testbed.cli.predict_commands import read_fit
from testbed.errors import FolderError, TestbedError
from testbed.files import write_text
from testbed.points import points_digest
from testbed.records import Forecast
from testbed.study import Study
from testbed.training.store import SweepFolder
from testbed.training.store.ledger import Ledger
from testbed.training.store.sweep_points import sweep_points
from testbed.training.sweep import plan
from tests.helpers.hostile import limited_command, mutated, refusal, result_or_none, snapshot, try_each
from tests.helpers.planted_sweep import planted_points

RECORDS = (
    "evals.jsonl",
    "done.json",
    "failed.json",
    "provenance.jsonl",
    "notices.jsonl",
    "sessions/0001.json",
    "spec.json",
)
FILES = ("config.toml", "plan.json", "forecast.json", "verdict.json", "timetable.json", "certificate.json", *RECORDS)
NOTES = {
    "done.json": {"finished": "", "steps": 1, "tokens": 1, "flops": 1, "seconds": 1.0},
    "failed.json": {"finished": "", "reason": "none", "details": "", "diverged": False},
    "notices.jsonl": {"at": "", "message": "mended"},
    "sessions/0001.json": {"owner": "a", "machine": "b", "host": "c", "pid": 1, "started": "", "released": True},
    "provenance.jsonl": {
        **{
            "started": "",
            "versions": {},
            "python": "",
            "platform": "",
            "device": "",
            "cpu_capability": "",
            "threads": 1,
        },
        **{"deterministic": True, "commit": None, "data_fingerprint": ""},
    },
}


@pytest.fixture(scope="module")
def sweep(tiny_config, tiny_source, sealed_forecast, tmp_path_factory):
    """A sweep's folder whose first run has every kind of record, and the place of that run."""
    folder = SweepFolder.create(
        tmp_path_factory.mktemp("sweep") / "s", tiny_config, plan(tiny_config, tiny_source.facts).runs
    )
    run = folder.path / "runs" / folder.specs[0].run_id
    horizon = folder.specs[0].horizons[0]
    evaluation = {
        **{"phase": "annealed", "horizon": horizon.tokens, "step": horizon.steps, "tokens": horizon.tokens, "flops": 1},
        **{"loss": 3.0, "bpb": None, "train_loss": None, "lr": 0.1, "seconds": 1.0},
    }
    for name, value in {
        **NOTES,
        "evals.jsonl": evaluation,
        "spec.json": folder.specs[0].model_dump(mode="json"),
    }.items():
        write_text(run / name, json.dumps(value) + "\n")
    folder.seal(sealed_forecast)
    folder.keep_timetable({spec.run_id: 1.0 for spec in folder.specs})
    return folder.path, run


def place(sweep, name):
    folder, run = sweep
    return (run if name in RECORDS else folder) / name


def read_all(folder):
    """What status, points, validate and report read of a folder."""
    study = Study.open(folder)
    points = sweep_points(study.folder)
    for run in map(study.folder.run, study.folder.specs):
        run.state(), run.evals(), run.done(), run.failure(), run.notices(), run.provenance(), run.sessions()
    ledger = Ledger.of(study.folder)
    assert 0 <= ledger.share <= 1
    assert ledger.spent.flops >= 0
    study.folder.verdict()
    study.folder.forecast()
    return len(points)


def changed(sweep, name, content):
    """Read the folder with one file's content changed, and put it back."""
    folder, path = sweep[0], place(sweep, name)
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    seen = snapshot(folder.parent)
    try:
        return result_or_none(lambda: read_all(folder), path, folder)
    finally:
        assert snapshot(folder.parent) == seen
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)


@pytest.mark.slow
def test_mutated_files_of_a_folder(sweep):
    def mutations(name):
        path = place(sweep, name)
        content = path.read_bytes() if path.exists() else b'{"a": 1}'
        return st.tuples(st.just(name), mutated(content))

    ends = try_each(lambda change: changed(sweep, *change), st.sampled_from(FILES).flatmap(mutations))
    assert ends["accepted"]
    assert ends["refused"]


numbers = st.one_of(
    st.integers(-3, 9),
    st.sampled_from([2**63, 10**40, 10**400, -(10**400)]),
    st.floats(),
    st.sampled_from([1e308, 5e-324]),
)
values = st.one_of(
    numbers,
    st.text(max_size=12),
    st.sampled_from(["../../x", "/etc/passwd", "\0", "a/b", "os:abort", "<script>", "[/bold]", "\x1b[2J"]),
    st.one_of(
        st.none(),
        st.booleans(),
        st.lists(numbers, max_size=3),
        st.dictionaries(st.text(max_size=4), numbers, max_size=2),
    ),
)


def paths_of(tree, prefix=()):
    """Every place in a JSON document, of long lists the first entries."""
    found = [prefix] if prefix else []
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    for key, value in entries:
        found += paths_of(value, (*prefix, key))
    return found


def with_value(tree, path, value):
    """The document with another value at one place."""
    made = copy.deepcopy(tree)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


JSONS = tuple(name for name in FILES if name not in ("config.toml", "verdict.json", "certificate.json"))


def test_any_value_anywhere_in_a_folders_records(sweep):
    trees = {}
    for name in JSONS:
        content = place(sweep, name).read_bytes()
        trees[name] = json.loads(content.splitlines()[0] if "jsonl" in name else content)

    def read(at, value):
        name, path = at
        return changed(sweep, name, json.dumps(with_value(trees[name], path, value)).encode() + b"\n")

    places = st.sampled_from(JSONS).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(paths_of(trees[name])))
    )
    ends = try_each(read, places, values)
    assert ends["accepted"]
    assert ends["refused"]


@pytest.mark.slow
def test_forecasts_that_were_sealed_anew_by_somebody_else(sweep, sealed_forecast):
    tree = sealed_forecast.model_dump(mode="json")

    def read(path, value):
        made = with_value(tree, path, value)
        try:
            forecast = Forecast.model_validate_json(json.dumps(made)).sealed().model_dump_json().encode()
        except ValueError:
            forecast = json.dumps(made).encode()
        return changed(sweep, "forecast.json", forecast)

    ends = try_each(read, st.sampled_from([path for path in paths_of(tree) if path != ("digest",)]), values)
    assert ends["accepted"]
    assert ends["refused"]


def test_plans_that_name_other_places(sweep):
    plan_json = json.loads((sweep[0] / "plan.json").read_text())
    first = next(iter(plan_json["runs"].values()))
    for name in ("../../outside", "/outside", "a\0b", "x" * 300):
        assert changed(sweep, "plan.json", json.dumps(plan_json | {"runs": {name: first}}).encode()) is None
    wide = first | {"shape": first["shape"] | {"width": 10**300}}
    assert changed(sweep, "plan.json", json.dumps(plan_json | {"runs": {"w": wide}}).encode()) is None
    assert changed(sweep, "plan.json", b'{"config_hash":' + b"[" * 100_000) is None


# --- fits -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document():
    points = planted_points("hoffmann", 0.01).rename(columns={"n_params_non_embedding": "n"})
    return fit_law("hoffmann", points[["n", "tokens", "loss"]], n_boot=30).to_dict()


def predicted(path):
    fit = read_fit(path)
    with np.errstate(all="ignore"):
        return fit.get_prediction({"n": 1e7, "tokens": 1e9}).summary_frame()


def test_fits_of_any_values(tmp_path, document):
    path = tmp_path / "F.json"

    def read(place, value, with_digest):
        made = with_value(document, place, value)
        if with_digest:
            try:
                made["data_digest"] = points_digest(pd.DataFrame(made["points"]))
            except Exception:  # no points at all
                made["data_digest"] = "x"
        path.write_text(json.dumps(made))
        return result_or_none(lambda: predicted(path), path)

    ends = try_each(read, st.sampled_from(paths_of(document)), values, st.booleans())
    assert ends["accepted"]
    assert ends["refused"]


def test_mutated_fits(tmp_path, document):
    path = tmp_path / "F.json"

    def read(content):
        path.write_bytes(content)
        return result_or_none(lambda: predicted(path), path)

    assert try_each(read, mutated(json.dumps(document).encode()))["refused"]


# --- links and pipes --------------------------------------------------------------------------


@pytest.fixture
def own(sweep, tmp_path):
    """A copy of the folder to change, beside a folder that nobody may write in."""
    shutil.copytree(sweep[0], tmp_path / "s")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("precious")
    return SweepFolder.open(tmp_path / "s"), outside


def test_runs_are_not_written_through_links_that_lead_out(own):
    folder, outside = own
    run = folder.run(folder.specs[1])
    run.path.symlink_to(outside)
    before = snapshot(outside)
    with pytest.raises(FolderError, match=r"leads out of .* by a symbolic link"), run.claimed(1.0):
        pass
    run.path.unlink()
    run.path.mkdir()
    for name in ("lock", "sessions"):
        (run.path / name).symlink_to(outside / ("precious.txt" if name == "lock" else ""))
        with pytest.raises(FolderError, match="leads out of"), run.claimed(1.0):
            pass
        (run.path / name).unlink()
    assert snapshot(outside) == before


def test_lines_are_not_added_to_what_a_link_leads_to(own):
    folder, outside = own
    run = folder.run(folder.specs[1])
    run.path.mkdir()
    (run.path / "notices.jsonl").symlink_to(outside / "precious.txt")
    with pytest.raises(FolderError, match="cannot write"):
        run.notice("x")
    assert (outside / "precious.txt").read_text() == "precious"


def test_reports_are_not_written_through_links_that_lead_out(own):
    folder, outside = own
    (folder.path / "report").symlink_to(outside)
    before = snapshot(outside)
    with pytest.raises(FolderError, match="leads out of"):
        Study.open(folder.path).report()
    assert snapshot(outside) == before


@pytest.mark.parametrize("name", ["config.toml", "plan.json", "evals.jsonl", "done.json", "forecast.json"])
def test_pipes_and_devices_are_not_read(own, name):
    folder, _ = own
    path = place((folder.path, folder.run(folder.specs[0]).path), name)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(TestbedError, match=r"plain file|not a sweep's folder"):
        read_all(folder.path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(TestbedError, match=r"plain file|not a sweep's folder"):
        read_all(folder.path)


@pytest.mark.slow
def test_the_command_line_tells_it_in_one_message_and_writes_nothing(own):
    folder, _ = own
    (folder.run(folder.specs[0]).path / "failed.json").write_bytes(b'{"reason": "\xff\x1b[2J"}')
    (folder.run(folder.specs[0]).path / "done.json").unlink()
    before = snapshot(folder.path.parent)
    assert "failed.json: not a failed" in refusal(limited_command("status", folder.path, cwd=folder.path.parent))
    (folder.path / "plan.json").write_text("{")
    assert "plan.json: not a plan" in refusal(limited_command("points", folder.path, cwd=folder.path.parent))
    assert snapshot(folder.path.parent).keys() == before.keys()
