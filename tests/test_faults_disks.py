"""Disks that are full, read-only or gone: one clear error, nothing finished is lost, the same command goes on."""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from testbed.records import Eval
from testbed.study import Study
from testbed.training.executors import LocalExecutor
from testbed.training.store import SweepFolder
from testbed.training.sweep import packs
from tests.helpers.sweeps import Quiet, fresh, table, wait_for

pytestmark = pytest.mark.usefixtures("warm")

SMALL = (
    "grid.widths=[8, 16]",
    "grid.tokens=[12_800, 25_600, 76_800]",
    "target.tokens=409_600",
    "execution.checkpoint_seconds=0.3",
    "execution.workers=1",
    'execution.device="cpu"',
)


@pytest.fixture(scope="module")
def undisturbed(tiny_toml, tmp_path_factory):
    sweep = fresh(tiny_toml, tmp_path_factory.mktemp("undisturbed") / "sweep", *SMALL)
    LocalExecutor("cpu", 1).run(sweep, packs(sweep.of_role("grid")), Quiet())
    return table(sweep)


def mount(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


class FullDisk:
    """A tmpfs of 8 MB with a file that takes all that is left."""

    told = r"No space left on device"

    def __init__(self, folder):
        self.place = folder / "disk"
        self.place.mkdir()
        mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", self.place)

    def hurt(self):
        with (self.place / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def heal(self):
        (self.place / "filler").unlink()

    def end(self):
        while subprocess.run(["umount", "-l", self.place], capture_output=True, check=False).returncode == 0:
            pass  # one mount lies on another


class ReadOnly(FullDisk):
    """A tmpfs that no longer takes anything: what is mounted in its place is the same, without leave to write."""

    told = r"Read-only file system"

    def hurt(self):
        mount("--bind", self.place, self.place)
        mount("-o", "remount,bind,ro", self.place)

    def heal(self):
        subprocess.run(["umount", self.place], check=True)


class Gone:
    """A folder that is mounted elsewhere, and unmounted while it is in use."""

    told = r"vanished|No such file or directory|no config.toml"

    def __init__(self, folder):
        self.content, self.place = folder / "content", folder / "disk"
        self.content.mkdir()
        self.place.mkdir()
        mount("--bind", self.content, self.place)

    def hurt(self):
        subprocess.run(["umount", "-l", self.place], check=True)

    def heal(self):
        assert not list(self.place.rglob("*")), "nothing was written where the disk had been"
        mount("--bind", self.content, self.place)

    def end(self):
        subprocess.run(["umount", "-l", self.place], capture_output=True, check=False)


@pytest.fixture(params=[FullDisk, ReadOnly, Gone])
def disk(request, tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting takes root")
    made = request.param(tmp_path)
    yield made
    made.end()


def command(tiny_toml, disk):
    changes = [part for change in SMALL for part in ("--set", change)]
    return [sys.executable, "-m", "testbed", "train", str(tiny_toml), *changes, "--out", str(disk.place / "sweep")]


def records(sweep):
    """What finished runs have left, by file."""
    kept = ("evals.jsonl", "done.json", "weights.safetensors", "spec.json")
    ended = [path.parent for path in sweep.path.glob("runs/*/done.json")]
    return {folder / name: (folder / name).read_bytes() for folder in ended for name in kept}


@pytest.mark.slow
def test_a_disk_that_fails_stops_the_sweep_and_not_its_runs(tiny_toml, disk, undisturbed):
    line = command(tiny_toml, disk)
    launcher = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    path = disk.place / "sweep"
    wait_for(lambda: launcher.poll() is not None or list(path.glob("runs/*/done.json")))
    wait_for(lambda: launcher.poll() is not None or list(path.glob("runs/*/trunk.safetensors")))
    finished = records(SweepFolder.open(path))
    assert finished
    disk.hurt()
    out, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 2, out + err
    assert "Traceback" not in out + err
    message = " ".join(err.split())
    assert re.search(rf"error: .*{re.escape(str(disk.place))}.*({disk.told})", message), message
    assert re.search(r"free space|available again|write permission|folder that testbed run has made", message), message
    disk.heal()
    sweep = SweepFolder.open(path)
    assert {file: file.read_bytes() for file in finished} == finished
    assert not list(sweep.path.glob("runs/*/failed.json"))
    for evals in sweep.path.glob("runs/*/evals.jsonl"):
        for whole in evals.read_text().split("\n")[:-1]:
            Eval.model_validate_json(whole)
    if isinstance(disk, Gone):  # the same command; elsewhere what it does, which saves the time of its start
        again = subprocess.run(line, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
    else:
        Study.open(path).train("grid", Quiet())
    assert table(SweepFolder.open(path)).equals(undisturbed)
    assert {file: file.read_bytes() for file in finished} == finished
    assert not list(sweep.path.glob("runs/*/.*")), "no temporary file is left"


@pytest.mark.slow
def test_a_sweep_cannot_start_on_a_disk_that_takes_nothing(tiny_toml, tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting takes root")
    disk = ReadOnly(tmp_path)
    try:
        disk.hurt()
        end = subprocess.run(command(tiny_toml, disk), capture_output=True, text=True, check=False)
        assert end.returncode == 2
        assert "Traceback" not in end.stderr
        assert re.search(r"cannot write \S*plan\.json: Read-only file system; .*--out", " ".join(end.stderr.split()))
        disk.heal()
        disk.hurt()
        status = subprocess.run(
            [sys.executable, "-m", "testbed", "status", str(disk.place / "sweep")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert status.returncode == 2
    finally:
        disk.end()
