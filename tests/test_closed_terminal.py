"""A terminal that is closed while a sweep is trained in it. Its processes start cold: a warm one is in no terminal's group."""

import contextlib
import os
import pty
import sys

from testbed.training.store import SweepFolder
from tests.helpers.sweeps import SLOW, processes_of, wait_for

LONG = (
    SLOW,
    "grid.widths=[8, 16]",
    "grid.tokens=[51_200, 102_400, 512_000]",
    "target.tokens=2_048_000",
    "train.trunk_evals=40",
    "execution.checkpoint_seconds=1000.0",  # only who is asked to stop writes one
)


def train_in_a_terminal(tiny_toml, folder):
    """Process id and terminal of `testbed train` in the foreground of a terminal of its own."""
    pid, terminal = pty.fork()
    if pid == 0:
        changes = [part for change in LONG for part in ("--set", change)]
        line = ["-m", "testbed", "train", str(tiny_toml), "--out", str(folder), "--workers", "1", "--device", "cpu"]
        os.execve(sys.executable, [sys.executable, *line, *changes], os.environ)
    os.set_blocking(terminal, False)
    return pid, terminal


def losses(folder, terminal):
    """Losses logged so far; reads what the terminal shows, or the command would wait for a reader."""
    with contextlib.suppress(BlockingIOError):
        os.read(terminal, 1 << 16)  # OSError where the command has ended
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("runs/*/evals.jsonl"))


def test_a_closed_terminal_leaves_a_checkpoint_as_ctrl_c_does(tiny_toml, slow, tmp_path):
    """The kernel sends SIGHUP to the launcher and to its worker, and neither can print any more."""
    slow.write_text("0.1")
    pid, terminal = train_in_a_terminal(tiny_toml, tmp_path / "sweep")
    wait_for(lambda: losses(tmp_path / "sweep", terminal) > 3)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    sweep = SweepFolder.open(tmp_path / "sweep")
    wait_for(lambda: not processes_of(sweep), 60)
    assert "paused" in {sweep.run(spec).state() for spec in sweep.of_role("grid")}
    assert list(tmp_path.glob("sweep/runs/*/trunk.safetensors"))
