"""An archive is the sweep: what reads its folder reads it again; damage, changes and hostile archives are refused."""

import json
import shutil
import stat
import warnings
import zipfile

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.cli.app import app
from testbed.errors import FolderError, TestbedError
from testbed.points import read_table
from testbed.sharing.archive import pack
from testbed.sharing.members import MANIFEST, belongs
from testbed.sharing.unpacking import unpack
from testbed.study import Study
from testbed.training.store import SweepFolder
from testbed.training.store.sweep_points import sweep_points
from tests.helpers.finished import finish_by_law, sweep_of
from tests.helpers.sweeps import TINY

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A whole study: grid, seal, target, verdict, page; with a lock, a log, weights and rubbish beside its records."""
    folder, _ = sweep_of(TINY, tmp_path_factory.mktemp("archive") / "tiny")
    finish_by_law(folder, folder.of_role("grid"))
    study = Study(folder)
    study.seal()
    finish_by_law(folder, folder.of_role("target"))
    study.judge()
    study.report()
    (folder.path / "logs").mkdir()
    for name in ("lock", "logs/worker.log", "report/.tmp", f"runs/{folder.specs[0].run_id}/weights.safetensors"):
        (folder.path / name).write_bytes(b"local")
    return folder


@pytest.fixture(scope="module")
def packed(sweep, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "tiny.zip"
    pack(sweep.path, path)
    return path


def names(archive):
    with zipfile.ZipFile(archive) as opened:
        return set(opened.namelist())


def rewritten(packed, path, change):
    """The archive with its (name -> content) changed and zipped anew."""
    with zipfile.ZipFile(packed) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in change(files).items():
            archive.writestr(name, content)
    return path


def test_an_archive_holds_the_records_and_nothing_else(sweep, packed):
    run = f"runs/{sweep.specs[0].run_id}"
    assert {"config.toml", "plan.json", "points.csv", "forecast.json", "verdict.json", "report/index.html"} < names(
        packed
    )
    assert {f"{run}/{name}" for name in ("spec.json", "provenance.jsonl", "evals.jsonl", "done.json")} < names(packed)
    assert not any("lock" in n or "logs" in n or n.endswith((".safetensors", ".tmp")) for n in names(packed))


def test_the_same_records_give_the_same_bytes_also_from_an_unpacked_archive(sweep, packed, tmp_path):
    pack(sweep.path, tmp_path / "again.zip")
    unpack(packed, tmp_path / "tiny")
    pack(tmp_path / "tiny", tmp_path / "third.zip")
    assert packed.read_bytes() == (tmp_path / "again.zip").read_bytes() == (tmp_path / "third.zip").read_bytes()


@pytest.mark.slow
def test_what_reads_a_folder_reads_an_unpacked_archive(sweep, packed, tmp_path, capsys):
    told = unpack(packed, tmp_path / "tiny")
    assert told.files == len(names(packed)) - 1
    folder = SweepFolder.open(tmp_path / "tiny")
    pd.testing.assert_frame_equal(sweep_points(folder), sweep_points(sweep), check_exact=True)
    table = read_table(tmp_path / "tiny" / "points.csv")
    assert table["loss"].tolist() == sweep_points(sweep)["loss"].tolist()
    assert folder.forecast() == sweep.forecast() and folder.verdict() == sweep.verdict()
    assert stat.S_IMODE(folder.forecast_path.stat().st_mode) == 0o444
    for command in (["status"], ["points"], ["validate"], ["report"]):
        app([*command, str(tmp_path / "tiny")], standalone_mode=False)
    said = capsys.readouterr().out
    assert f"{len(sweep.specs)} done" in said and "forecast sealed" in said
    assert Study(folder).judge().error == sweep.verdict().error


def test_a_plain_unzip_does_too(sweep, packed, tmp_path):
    with zipfile.ZipFile(packed) as opened:
        opened.extractall(tmp_path / "tiny")
    pd.testing.assert_frame_equal(
        sweep_points(SweepFolder.open(tmp_path / "tiny")), sweep_points(sweep), check_exact=True
    )


def test_tensors_go_along_only_where_they_are_asked_for(sweep, tmp_path):
    pack(sweep.path, tmp_path / "all.zip", checkpoints=True)
    name = f"runs/{sweep.specs[0].run_id}/weights.safetensors"
    assert name in names(tmp_path / "all.zip")
    unpack(tmp_path / "all.zip", tmp_path / "tiny")
    assert (tmp_path / "tiny" / name).read_bytes() == b"local"


def test_every_change_of_a_file_is_noticed(sweep, packed, tmp_path):
    run = f"runs/{sweep.specs[0].run_id}"
    changes = {
        "loss": lambda f: f | {f"{run}/evals.jsonl": f[f"{run}/evals.jsonl"].replace(b'"loss":', b'"loss":1', 1)},
        "verdict": lambda f: f | {"verdict.json": f["verdict.json"].replace(b"true", b"false")},
        "longer": lambda f: f | {"plan.json": f["plan.json"] + b"\n"},
        "shorter": lambda f: f | {"points.csv": f["points.csv"][:-1]},
        "empty": lambda f: f | {"points.csv": b""},
        "missing": lambda f: {name: content for name, content in f.items() if name != f"{run}/done.json"},
        "added": lambda f: f | {f"{run}/failed.json": b"{}"},
    }
    for name, change in changes.items():
        bad = rewritten(packed, tmp_path / f"{name}.zip", change)
        with pytest.raises(FolderError, match=r"was changed after it was packed|the manifest"):
            unpack(bad, tmp_path / "out")
    assert not (tmp_path / "out").exists()


HOSTILE = ["../x", "/etc/x", "runs/../../x", "runs\\..\\x", "C:/x", "runs/a/b/c/d", ".ssh", "report/../x", "report/.x"]
HOSTILE += [
    "x.pkl",
    "runs/a/evals.jsonl/x",
    "runs//evals.jsonl",
    "config.toml/",
    "report/a\nb",
    "report/" + "a" * 300,
    " ",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_belong_in_no_sweep_are_refused(packed, tmp_path, name):
    assert not belongs(name)
    bad = rewritten(packed, tmp_path / "bad.zip", lambda files: files | {name: b"x"})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FolderError, match="belongs in no sweep"):
        unpack(bad, tmp_path / "in" / "out")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_are_refused(packed, tmp_path, kind):
    shutil.copy(packed, tmp_path / "bad.zip")
    entry = zipfile.ZipInfo("report/link")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "a") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(FolderError, match="no plain file"):
        unpack(tmp_path / "bad.zip", tmp_path / "out")


def test_a_bomb_is_refused_before_it_is_unpacked(packed, tmp_path):
    bad = rewritten(packed, tmp_path / "bad.zip", lambda files: files | {"report/big": bytes(200_000_000)})
    with pytest.raises(FolderError, match=r"bytes in an archive of [\d,]+; accepted: at most"):
        unpack(bad, tmp_path / "out")


def test_the_same_name_twice_is_refused(packed, tmp_path):
    shutil.copy(packed, tmp_path / "bad.zip")
    with zipfile.ZipFile(tmp_path / "bad.zip", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("plan.json", "{}")
    with pytest.raises(FolderError, match="two files of the name"):
        unpack(tmp_path / "bad.zip", tmp_path / "out")


def test_an_archive_of_another_format_or_of_nothing_is_refused(packed, tmp_path):
    def format_2(files):
        return files | {MANIFEST: files[MANIFEST].replace(b'"format": 1', b'"format": 2, "further": {}')}

    def no_plan(files):
        manifest = json.loads(files[MANIFEST])
        del manifest["files"]["plan.json"], files["plan.json"]
        return files | {MANIFEST: json.dumps(manifest).encode()}

    cases = {
        "found format 2, this version of testbed reads up to format 1: update testbed": format_2,
        "is no manifest": lambda files: files | {MANIFEST: b"{}"},
        "no MANIFEST.json in it": lambda files: {"plan.json": b""},
        "no sweep that can be opened in it": no_plan,
    }
    for message, change in cases.items():
        with pytest.raises(FolderError, match=message):
            unpack(rewritten(packed, tmp_path / "bad.zip", change), tmp_path / "out")
    for content in (b"", b"PK", b"no archive"):
        (tmp_path / "bad.zip").write_bytes(content)
        with pytest.raises(FolderError, match="not a readable zip archive"):
            unpack(tmp_path / "bad.zip", tmp_path / "out")
    with pytest.raises(FolderError, match="cannot be read"):
        unpack(tmp_path / "absent.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_archives_end_in_one_message(packed, tmp_path, data):
    content = bytearray(packed.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(content), len(content) - 30, len(content) // 2]))
    (tmp_path / "bad.zip").write_bytes(content[:cut])
    try:
        unpack(tmp_path / "bad.zip", tmp_path / "out")
    except TestbedError:
        assert not (tmp_path / "out").exists()
    else:  # what was hit says nothing: a time, a flag
        with zipfile.ZipFile(packed) as opened:
            assert all((tmp_path / "out" / n).read_bytes() == opened.read(n) for n in opened.namelist())
        shutil.rmtree(tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"bad.zip"}


def test_nothing_is_overwritten(packed, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(FolderError, match="not empty"):
        unpack(packed, tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderError, match="there already"):
        unpack(packed, tmp_path / "link")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_link_in_the_folder_is_not_packed(sweep, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(sweep.path, copy)
    evals = copy / "runs" / sweep.specs[3].run_id / "evals.jsonl"
    (tmp_path / "secret").write_bytes(evals.read_bytes())
    evals.unlink()
    evals.symlink_to(tmp_path / "secret")
    with pytest.raises(FolderError, match="a link; an archive takes files only"):
        pack(copy, tmp_path / "bad.zip")
    assert not (tmp_path / "bad.zip").exists()


def test_a_damaged_loss_is_not_packed(sweep, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(sweep.path, copy)
    (copy / "runs" / sweep.specs[3].run_id / "evals.jsonl").write_text('{"loss": "x"}\n')
    with pytest.raises(FolderError, match="line 1: not an evaluation"):
        pack(copy, tmp_path / "bad.zip")
    assert not (tmp_path / "bad.zip").exists()


def test_the_commands_say_what_they_wrote(sweep, tmp_path, capsys):
    app(["pack", str(sweep.path), "-o", str(tmp_path / "s.zip")], standalone_mode=False)
    packed = capsys.readouterr().out
    app(["unpack", str(tmp_path / "s.zip"), "-o", str(tmp_path / "s")], standalone_mode=False)
    assert packed.splitlines()[1] == capsys.readouterr().out.splitlines()[1]  # the manifest's digest
    with pytest.raises(FolderError, match=r"ending '\.tar'; accepted: \.zip"):
        app(["pack", str(sweep.path), "-o", str(tmp_path / "s.tar")], standalone_mode=False)
