"""Sweeps of a few seconds, a watcher that listens, and what tests ask of processes."""

import sys
import time
from pathlib import Path

from testbed.config import load_config
from testbed.training.data import open_source
from testbed.training.executors import settle_packs
from testbed.training.store import SweepFolder
from testbed.training.store.sweep_points import sweep_points
from testbed.training.sweep import plan
from tests.helpers.warm_python import programs

TINY = """
name = "tiny"

[data]
source = "synthetic:zipf"
seq_len = 32
val_windows = 64

[model]
depth = 2
head_size = 8

[train]
batch_tokens = 256
warmup_steps = 5
trunk_evals = 2
pack = 2

[grid]
widths = [8, 16, 24]
tokens = [10_240, 20_480, 40_960]
init_seeds = [0, 1]

[target]
width = 32
tokens = 81_920
init_seeds = [7, 8]

[forecast]
bootstrap = 100
"""

LONG = (
    "grid.tokens=[102_400, 204_800]",
    "target.tokens=409_600",
    "grid.widths=[8, 16]",
    "execution.checkpoint_seconds=0.3",
)

SLOWLY = """
import os, time
from pathlib import Path
from testbed.training.data.synthetic import ZipfSource
class Slow(ZipfSource):
    def rows(self, *arguments):
        pause = Path(os.environ["SLOW"])
        time.sleep(float(pause.read_text()) if pause.exists() else 0)
        return super().rows(*arguments)
"""
SLOW = 'data.source="slow.source:Slow"'  # with the fixture `slow`: runs that last as long as a test wants


class Quiet:
    """A watcher that keeps what it is told."""

    def __init__(self):
        self.begun, self.outcomes, self.evals = [], [], []

    def started(self, spec):
        self.begun.append(spec.run_id)

    def progress(self, spec, steps):
        assert 0 <= steps <= spec.steps

    def evaluated(self, spec, evaluation):
        self.evals.append((spec.run_id, evaluation))

    def ended(self, spec, outcome):
        self.outcomes.append(outcome)


def fresh(tiny_toml, path, *overrides):
    config = load_config(tiny_toml, overrides)
    made = settle_packs(plan(config, open_source(config.data).facts), config.train)
    return SweepFolder.create(path, config, made.runs)


def table(sweep):
    return sweep_points(sweep).sort_values(["run", "horizon", "step"]).reset_index(drop=True)


def processes_of(sweep, module="testbed.training.executors.worker"):
    """Process ids of the sweep's processes that run this module, from their command lines."""
    python = Path(sys.executable)
    lines = programs(python.parent) if python.name == "warm_python" else command_lines()
    return [process for process, line in lines.items() if module in line and str(sweep.path) in line]


def command_lines():
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").split("\0")
            except OSError:
                continue
    return found


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
