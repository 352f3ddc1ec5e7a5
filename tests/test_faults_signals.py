"""Requests to stop, a clock that goes backwards, and a configuration that is edited meanwhile: no harm, one message."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from testbed.config import load_config
from testbed.errors import FolderError
from testbed.study import Study
from testbed.training.executors import LocalExecutor
from testbed.training.store import SweepFolder
from testbed.training.sweep import packs
from tests.helpers.sweeps import SLOW, Quiet, fresh, processes_of, table, wait_for

pytestmark = pytest.mark.usefixtures("warm")

LONG = (
    SLOW,
    "grid.widths=[8, 16]",
    "grid.tokens=[12_800, 51_200, 128_000]",
    "target.tokens=512_000",
    "train.trunk_evals=40",
    "execution.checkpoint_seconds=1000",  # only who is told to stop writes one
    "execution.workers=1",
    'execution.device="cpu"',
)

# the system's clock from the year 2030 into the past, a thousand times as fast; the steady clock is left alone
BACKWARDS = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static double seconds(void) {
    static double start;
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    double real = now.tv_sec + now.tv_nsec / 1e9;
    if (start == 0) start = real;
    return 1.9e9 - 1000 * (real - start);
}
int clock_gettime(clockid_t clock, struct timespec *told) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return syscall(SYS_clock_gettime, clock, told);
    double now = seconds();
    told->tv_sec = now;
    told->tv_nsec = (now - told->tv_sec) * 1e9;
    return 0;
}
int gettimeofday(struct timeval *told, void *zone) {
    double now = seconds();
    told->tv_sec = now;
    told->tv_usec = (now - told->tv_sec) * 1e6;
    return 0;
}
time_t time(time_t *told) {
    time_t now = seconds();
    if (told) *told = now;
    return now;
}
"""


@pytest.fixture(scope="module")
def undisturbed(tiny_toml, tmp_path_factory, slow):
    sweep = fresh(tiny_toml, tmp_path_factory.mktemp("undisturbed") / "sweep", *LONG)
    LocalExecutor("cpu", 1).run(sweep, packs(sweep.of_role("grid")), Quiet())
    return table(sweep)


@pytest.fixture
def backwards(tmp_path):
    """An environment whose processes live backwards."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a clock that goes backwards takes a C compiler")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(BACKWARDS)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return os.environ | {"LD_PRELOAD": str(library)}


def launch(tiny_toml, path, environment=None):
    changes = [part for change in LONG for part in ("--set", change)]
    return subprocess.Popen(
        [sys.executable, "-m", "testbed", "train", str(tiny_toml), *changes, "--out", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def losses_so_far(path):
    return sum(file.read_bytes().count(b"\n") for file in path.glob("runs/*/evals.jsonl"))


def stop(launcher, path, how):
    """Send the signal once the sweep has gone on; it ends with its checkpoint written and nobody left at work."""
    before = losses_so_far(path)
    wait_for(lambda: launcher.poll() is not None or losses_so_far(path) > before + 3)
    if launcher.poll() is None:
        how(launcher.pid)
    out, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 130, out + err
    assert "every run at work has written its checkpoint" in " ".join(err.split())
    assert "Traceback" not in err
    sweep = SweepFolder.open(path)
    assert not processes_of(sweep)
    states = {sweep.run(spec).state() for spec in sweep.of_role("grid")}
    assert list(path.glob("runs/*/trunk.safetensors")) or "paused" not in states
    assert not states & {"failed", "running"}


def in_the_future(path):
    later = time.time() + 10 * 365 * 86400
    for file in path.rglob("*"):
        os.utime(file, (later, later))


def refuses_other_configurations(tiny_toml, path):
    """While the sweep runs: another file or --set, and an edited file in the folder."""
    with pytest.raises(
        FolderError, match=r"holds a sweep of another configuration; it differs in train\.lr: 0\.006 -> 0\.007"
    ):
        Study.create(load_config(tiny_toml, [*LONG, "train.lr=0.007"]), path)
    kept = path / "config.toml"
    content = kept.read_text()
    kept.write_text(content.replace("\nlr = 0.006", "\nlr = 0.009"))
    end = subprocess.run(
        [sys.executable, "-m", "testbed", "status", str(path)], capture_output=True, text=True, check=False
    )
    assert end.returncode == 2
    message = " ".join(end.stderr.split())
    assert "changed since the sweep was started (train.lr: 0.006 -> 0.009); undo the change" in message
    kept.write_text(content)


@pytest.mark.slow
def test_stops_a_clock_that_goes_backwards_and_edits_do_no_harm(tiny_toml, tmp_path, slow, undisturbed, backwards):
    path = tmp_path / "sweep"
    slow.write_text("0.5")
    first = launch(tiny_toml, path)
    wait_for(lambda: losses_so_far(path))
    refuses_other_configurations(tiny_toml, path)
    stop(first, path, lambda pid: os.kill(pid, signal.SIGTERM))  # as a batch system, to the launcher alone
    stop(
        launch(tiny_toml, path, backwards), path, lambda group: os.killpg(group, signal.SIGINT)
    )  # Ctrl-C on a terminal
    slow.unlink()
    in_the_future(path)
    last = launch(tiny_toml, path, backwards)
    out, err = last.communicate(timeout=300)
    assert last.returncode == 0, out + err
    sweep = SweepFolder.open(path)
    assert table(sweep).equals(undisturbed)
    starts = [p.started for spec in sweep.of_role("grid") for p in sweep.run(spec).provenance()]
    assert len(starts) > len(sweep.of_role("grid"))
    assert max(starts) > "2029", "the clock was another one"
