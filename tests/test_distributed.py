"""One run trained by two processes (gloo on the CPU): copies (DDP) and shards (FSDP)."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from testbed.config import load_config
from testbed.errors import ConfigError
from testbed.records import Engine, Eval, RunSpec, as_json
from testbed.training.data import open_source
from testbed.training.executors import LocalExecutor
from testbed.training.models import find_family
from testbed.training.store import SweepFolder
from testbed.training.store.sweep_points import sweep_points
from testbed.training.sweep import packs, plan
from testbed.training.train import Logged, train
from testbed.training.train.checkpoints.checkpoint import read_checkpoint
from tests.helpers.sweeps import processes_of, wait_for

pytestmark = pytest.mark.usefixtures("warm")
CPU = torch.device("cpu")

RANK = """
import json, os, sys, warnings
from pathlib import Path
import torch
from testbed.config import load_config
from testbed.training.data import open_source
from testbed.records import RunSpec, as_json
from testbed.training.train import Interruptions, Logged, Paused, train
from testbed.training.train.ranks import join

warnings.simplefilter("ignore")
torch.set_num_threads(1)
rank, meeting, config, spec, folder, recorded, stop_after = sys.argv[1:]
config = load_config(Path(config))
spec = RunSpec.model_validate_json(spec)
recorded = frozenset(tuple(key) for key in json.loads(recorded))
calls = 0
def stop():
    global calls
    calls += 1
    return rank == "0" and calls > int(stop_after)  # only the first process is ever told to stop
join(int(rank), spec.engine.processes, Path(meeting), torch.device("cpu"))
try:
    for event in train((spec,), open_source(config.data), (Path(folder),), torch.device("cpu"), (recorded,), Interruptions(stop)):
        if isinstance(event, Logged):
            print(json.dumps(as_json(event.evaluation)), flush=True)
    print("end", flush=True)
except Paused:
    print("paused", flush=True)
os._exit(0)  # as the workers do: ties to other processes do not always end well
"""


def together(spec, tiny_toml, folder, recorded=(), stop_after=10**9):
    """What each of the run's processes logged, and how it ended."""
    folder.mkdir(exist_ok=True)
    meeting = folder / f"meeting-{time.monotonic_ns()}"
    arguments = [meeting, tiny_toml, spec.model_dump_json(), folder, json.dumps(list(recorded)), stop_after]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(spec.engine.processes)
    ]
    lines = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [([Eval.model_validate_json(line) for line in found[:-1]], found[-1]) for found in lines]


def figures(evals):
    """Everything of the evaluations but their times."""
    return [e.model_dump(exclude={"seconds"}) for e in evals]


@pytest.fixture(scope="module")
def brief(tiny_toml, tiny_source) -> RunSpec:
    """33 steps: a trunk of 24, with branches after 12 and 24."""
    return plan(load_config(tiny_toml, ["grid.tokens=[3_840, 7_680]"]), tiny_source.facts).grid[0]


def short(spec, family="gpt", **engine) -> RunSpec:
    shape = spec.shape.model_copy(update={"family": family, "width": 16, "heads": 2})
    data = spec.data.model_copy(update={"first_scored": 2})
    counts = find_family(family).counts(shape)
    update = {"shape": shape, "counts": counts, "data": data, "trunk_evals": (12, 24)}
    return spec.model_copy(update=update | {"engine": Engine(**engine)})


def alone(spec, source, folder):
    return [e.evaluation for e in train((spec,), source, (folder,), CPU) if isinstance(e, Logged)]


@pytest.mark.parametrize("sharded", [False, True], ids=["copies", "shards"])
@pytest.mark.parametrize(
    ("family", "engine"), [("gpt", {"micro_rows": 3, "recompute": True}), ("hf:llama", {})], ids=["gpt", "llama"]
)
@pytest.mark.slow
def test_two_processes_train_the_run_of_one(brief, tiny_source, tiny_toml, tmp_path, sharded, family, engine):
    one = alone(short(brief, family), tiny_source, tmp_path / "one")
    (first, end), (second, _) = together(
        short(brief, family, processes=2, sharded=sharded, **engine), tiny_toml, tmp_path / "two"
    )
    assert end == "end"
    assert figures(first) == figures(second)
    assert [(e.step, e.tokens, e.flops, e.phase) for e in first] == [(e.step, e.tokens, e.flops, e.phase) for e in one]
    for mine, theirs in zip(first, one, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=2e-5)
        assert mine.train_loss == pytest.approx(theirs.train_loss, rel=2e-5)


@pytest.mark.parametrize("sharded", [False, True], ids=["copies", "shards"])
@pytest.mark.slow
def test_stopped_and_resumed_it_goes_on_bit_for_bit(brief, tiny_toml, tmp_path, sharded):
    spec = short(brief, processes=2, sharded=sharded, micro_rows=2)
    undisturbed, end = together(spec, tiny_toml, tmp_path / "a")[0]
    assert end == "end"
    events, ends = [], []
    for stop_after in (13, 10**9):  # inside a branch
        found = together(spec, tiny_toml, tmp_path / "b", [e.key for e in events], stop_after)
        assert len({end for _, end in found}) == 1
        events += found[0][0]
        ends.append(found[0][1])
    assert ends == ["paused", "end"]
    assert figures(events) == figures(undisturbed)
    first, second = (load_weights(tmp_path / name) for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)


def load_weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")


@pytest.mark.slow
def test_a_checkpoint_of_shards_is_whole(brief, tiny_source, tiny_toml, tmp_path):
    from testbed.training.train.module_learner import ModuleLearner

    spec = short(brief, processes=2, sharded=True)
    together(spec, tiny_toml, tmp_path / "a", stop_after=5)
    found = read_checkpoint(tmp_path / "a" / "trunk.safetensors", spec.run_id).tensors
    plain = ModuleLearner(short(brief), tiny_source, CPU)
    for step in range(6):
        plain.optimise(step, min(1.0, (step + 1) / spec.warmup_steps))
    for name, tensor in plain.state().items():
        if name != "loss_sum":
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    assert float(found["loss_sum"].sum()) == pytest.approx(plain.loss_sums()[0], rel=1e-6)
    assert as_json(spec)["engine"]["sharded"]


# --- through the executor -----------------------------------------------------------------------


class Told:
    """A watcher that ends a process of the run once it has made some progress."""

    def __init__(self, sweep, ending=None):
        self.sweep, self.ending, self.outcomes = sweep, ending, []

    def started(self, spec):
        pass

    def progress(self, spec, steps):
        self.end_one()

    def evaluated(self, spec, evaluation):
        self.end_one()

    def end_one(self):
        if self.ending is not None and list(self.sweep.path.glob("runs/*/*.safetensors")):
            for pid in processes_of(self.sweep, self.ending)[:1]:
                self.ending = None
                os.kill(pid, signal.SIGKILL)

    def ended(self, spec, outcome):
        self.outcomes.append(outcome)


def sweep_of_two(tiny_toml, path):
    grid = ["model.depth=1", "grid.widths=[16]", "grid.tokens=[10_240, 20_480]", "grid.init_seeds=[0, 1]"]
    often = ["execution.checkpoint_seconds=0.1"]
    config = load_config(tiny_toml, ["train.pack='none'", "train.processes=2", "train.sharded=true", *grid, *often])
    return SweepFolder.create(path, config, plan(config, open_source(config.data).facts).runs)


@pytest.mark.slow
def test_runs_of_several_processes_outlive_each_of_them(tiny_toml, tmp_path):
    tables = []  # the first sweep has two runs, so that one follows another
    for name, ending in (
        ("a", None),
        ("b", "testbed.training.executors.worker"),
        ("c", "testbed.training.executors.rank_processes"),
    ):
        sweep = sweep_of_two(tiny_toml, tmp_path / name)
        told = Told(sweep, ending)
        runs = packs(sweep.of_role("grid"))[: 2 if ending is None else 1]
        outcomes = LocalExecutor("cpu", 2).run(sweep, runs, told)
        assert told.ending is None, "the run ended before any of its processes could be"
        assert [(o.ending, o.reason) for o in outcomes] == [("done", "")] * len(runs)
        points = sweep_points(sweep)
        points = points[points["run"] == runs[0][0].run_id]
        tables.append(points.sort_values(["horizon", "step"]).reset_index(drop=True))
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
    wait_for(lambda: not processes_of(sweep, "testbed.training.executors.rank_processes"))


def test_processes_share_the_windows_evenly(tiny_toml):
    config = load_config(tiny_toml, ["train.pack='none'", "train.processes=3"])
    with pytest.raises(
        ConfigError, match=r"train.processes: found 3 for the grid, but train.batch_tokens is 8 windows"
    ):
        plan(config, open_source(config.data).facts)


def test_shards_need_several_processes(tiny_toml):
    with pytest.raises(ConfigError, match=r"train.sharded = true splits a run among several processes"):
        load_config(tiny_toml, ["train.sharded=true"])


def test_the_target_may_take_more_processes_than_the_grid(tiny_toml):
    config = load_config(tiny_toml, ["train.pack='auto'", "target.processes=4", "train.sharded=true"])
    made = plan(config, open_source(config.data).facts)
    assert {spec.engine for spec in made.grid} == {Engine()}
    assert {spec.engine for spec in made.target} == {Engine(processes=4, sharded=True)}
