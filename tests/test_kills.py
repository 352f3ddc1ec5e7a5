"""SIGKILL at random moments of a sweep: of its workers and of its launcher, as a user starts them.

Ten kills, or as many as TESTBED_KILLS says: twenty take two minutes.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from testbed.training.executors import LocalExecutor
from testbed.training.store.session import last_session, sessions
from testbed.training.sweep import packs
from tests.helpers.sweeps import Quiet, fresh, processes_of, table, wait_for

pytestmark = pytest.mark.usefixtures("warm")

KILLS = int(os.environ.get("TESTBED_KILLS", "10"))
SETTINGS = (
    "grid.widths=[8, 16]",
    f"grid.tokens=[{24_576 * KILLS}, {49_152 * KILLS}]",
    f"target.tokens={98_304 * KILLS}",
    "execution.checkpoint_seconds=0.2",
    "execution.workers=2",
)


@pytest.mark.slow
def test_kills_change_nothing(tiny_toml, tmp_path):
    undisturbed = fresh(tiny_toml, tmp_path / "undisturbed", *SETTINGS)
    LocalExecutor("cpu", 2).run(undisturbed, packs(undisturbed.of_role("grid")), Quiet())
    disturbed = fresh(tiny_toml, tmp_path / "disturbed", *SETTINGS)
    grid = disturbed.of_role("grid")
    rng = random.Random(20)
    ten = ["worker at work"] * 5 + ["launcher at work"] * 3 + ["worker", "launcher"]
    victims = (ten * (KILLS // 10 + 1))[:KILLS]
    rng.shuffle(victims)
    launcher = launch(disturbed)
    for victim in victims:
        if launcher.poll() is not None:
            launcher = launch(disturbed)
        if victim.endswith("at work"):
            wait_for(lambda launcher=launcher: owners(disturbed) or over(launcher))
            time.sleep(rng.uniform(0, 1))
        else:
            time.sleep(rng.uniform(0, 3))
        if victim.startswith("worker"):
            at_risk = owners(disturbed) if victim.endswith("at work") else processes_of(disturbed)
            kill(rng.choice(at_risk or [launcher.pid]))
        else:
            kill(launcher.pid)
            launcher.wait()
    assert any(disturbed.run(spec).state() != "done" for spec in grid), "the last kill hit a sweep"
    while launcher.wait(300) == -signal.SIGKILL:
        launcher = launch(disturbed)
    assert launcher.returncode == 0, launcher.communicate()[1]
    assert table(disturbed).equals(table(undisturbed))
    for spec in grid:
        assert rows(disturbed, spec) == rows(undisturbed, spec), "each row once, whole, in its order"
        assert disturbed.run(spec).done().steps == spec.steps
    taken = sum(len(sessions(disturbed.run(spec).path)) for spec in grid)
    assert taken > len(grid), "runs were taken over"
    told = f"{KILLS} kills survived, {taken} sessions of {len(grid)} runs, {len(table(disturbed))} rows compared"
    sys.stdout.write(f"\n{told}\n")


def launch(sweep):
    command = [sys.executable, "-m", "testbed", "train", str(sweep.path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def over(launcher):
    """Whether the launcher has ended, which it may at this time only by a signal."""
    if launcher.poll() is not None and launcher.returncode != -signal.SIGKILL:
        raise AssertionError(f"it ended by itself: {launcher.returncode}, {launcher.communicate()[1]}")
    return launcher.poll() is not None


def owners(sweep):
    """The processes that train a run of the sweep now."""
    running = [run.path for run in map(sweep.run, sweep.of_role("grid")) if run.state() == "running"]
    return sorted({session.pid for path in running if (session := last_session(path)[1])})


def kill(process):
    with contextlib.suppress(ProcessLookupError):  # it was faster
        os.kill(process, signal.SIGKILL)


def rows(sweep, spec):
    lines = (sweep.run(spec).path / "evals.jsonl").read_bytes().split(b"\n")
    assert lines[-1] == b""
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines[:-1]]
