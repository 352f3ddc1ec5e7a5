"""Two machines on one folder: the second is a mount namespace that says it is another machine."""

import os
import shlex
import signal
import subprocess
import sys
import uuid

import pytest

from testbed.training.store.ledger import Ledger
from testbed.training.store.session import machine, sessions
from tests.helpers.sweeps import LONG, fresh, processes_of, table, wait_for

pytestmark = pytest.mark.usefixtures("warm")

BOOT_ID = "/proc/sys/kernel/random/boot_id"
SETTINGS = (*LONG, "execution.lease_seconds=2.0", "execution.workers=1")


@pytest.fixture
def elsewhere(tmp_path):
    """Start a command as on another machine; skips where a namespace of one's own is not allowed."""
    name = tmp_path / "boot_id"
    name.write_text(f"{uuid.uuid4()}\n")

    def start(command):
        inside = f"mount --bind {shlex.quote(str(name))} {BOOT_ID} && exec {shlex.join(command)}"
        return subprocess.Popen(["unshare", "--mount", "sh", "-c", inside], stderr=subprocess.PIPE, text=True)

    try:
        tried = start(["cat", BOOT_ID])
        if tried.wait(30) != 0:
            pytest.skip(f"no mount namespace here: {tried.communicate()[1].strip()}")
    except FileNotFoundError:
        pytest.skip("no unshare here")
    return start


def command(sweep):
    return [sys.executable, "-m", "testbed", "train", str(sweep.path)]


def machines(sweep):
    return [{s.machine for s in sessions(sweep.run(spec).path)} for spec in sweep.of_role("grid")]


@pytest.mark.slow
def test_two_machines_share_out_a_sweep(tiny_toml, tmp_path, long_undisturbed, elsewhere):
    sweep = fresh(tiny_toml, tmp_path / "sweep", *SETTINGS)
    launches = [elsewhere(command(sweep)), subprocess.Popen(command(sweep), stderr=subprocess.PIPE, text=True)]
    for launch in launches:
        told = launch.communicate(timeout=300)[1]
        assert launch.returncode == 0, told
    assert table(sweep).equals(long_undisturbed)
    for spec in sweep.of_role("grid"):
        assert sum(session.steps for session in sessions(sweep.run(spec).path)) == spec.steps, "trained once"


@pytest.mark.slow
def test_the_runs_of_a_machine_that_died_are_taken_over_by_another(tiny_toml, tmp_path, long_undisturbed, elsewhere):
    sweep = fresh(tiny_toml, tmp_path / "sweep", *SETTINGS)
    launch = elsewhere(command(sweep))
    wait_for(lambda: list(sweep.path.glob("runs/*/trunk.safetensors")))
    for process in (launch.pid, *processes_of(sweep)):
        os.kill(process, signal.SIGKILL)
    launch.wait()
    there = [s for spec in sweep.of_role("grid") for s in sessions(sweep.run(spec).path)]
    assert any(not session.released and session.machine != machine() for session in there)
    subprocess.run(command(sweep), check=True, timeout=300)
    assert table(sweep).equals(long_undisturbed)
    assert max(len(each) for each in machines(sweep)) == 2
    assert Ledger.of(sweep, sweep.of_role("grid")).share == 1
