"""Memory that runs out in a step: halved passes with the same arithmetic, or an end with the numbers."""

import json
import re
import subprocess
import sys

import pytest
import torch

from testbed.config import load_config
from testbed.errors import RunFailed
from testbed.records import Eval
from testbed.training.data import open_source
from testbed.training.sweep import packed, plan
from testbed.training.train import Interruptions, Paused, train
from testbed.training.train.checkpoints.checkpoint import read_cursor
from testbed.training.train.device.selection import make_repeatable
from testbed.training.train.learners import make_learner
from testbed.training.train.memory.peak import give_back
from testbed.training.train.memory.shortage import with_room
from testbed.training.train.module_learner import ModuleLearner
from testbed.training.train.packed_learner import PackedLearner
from tests.helpers.single_runs import CPU, StopAfter, train_one
from tests.helpers.sweeps import fresh

pytestmark = pytest.mark.usefixtures("warm")

WIDE = (
    'train.pack="none"',
    "train.batch_tokens=16_384",
    "train.trunk_evals=0",
    "train.branch_evals=0",
    "train.warmup_steps=1",
    "data.seq_len=128",
    "data.val_windows=8",
    "grid.widths=[32]",
    "grid.init_seeds=[0]",
    "grid.tokens=[65_536]",
    "target.width=64",
    "target.tokens=655_360",
)

# the address space is limited to what the process has by then and ROOM bytes more
START = """
import json, resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from testbed.config import load_config
from testbed.training.data import open_source
from testbed.training.executors.training_run import run_pack
from testbed.training.store import SweepFolder
from testbed.training.sweep import packed
from testbed.training.train import Interruptions
from testbed.training.train.learners import make_learner
sweep = SweepFolder.open(Path(sys.argv[1]))
source, cpu = open_source(sweep.config.data), torch.device("cpu")
(spec,) = sweep.of_role("grid")
def limit(room):
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + room, resource.RLIM_INFINITY))
"""

STEPS = """
found = []
for specs in ((spec,), packed((spec,), 1)):
    used = make_learner(specs, source, cpu)
    used.split(1)
    used.optimise(0, 1.0)  # what the libraries take for themselves at their first use
    learner = make_learner(specs, source, cpu)
    limit(int(sys.argv[2]))
    for step in range(3):
        learner.optimise(step, 1.0)
    losses = learner.loss_sums()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    found.append({"rows": learner.rows, "notes": learner.notes(), "loss_sums": losses, "losses": learner.validate()})
print(json.dumps(found))
"""

RUN = """
told = []
def report(spec, event):
    if not told:
        limit(int(sys.argv[2]))  # once the network stands and the first step comes
    told.append(event)
outcomes = run_pack(sweep, (spec,), source, cpu, Interruptions(), report)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps({"ending": outcomes[0].ending, "reason": outcomes[0].reason}))
"""


@pytest.fixture
def wide(tiny_toml, tmp_path):
    return fresh(tiny_toml, tmp_path / "sweep", *WIDE)


def limited(script, sweep, *arguments):
    command = [sys.executable, "-c", START + script, str(sweep.path), *map(str, arguments)]
    end = subprocess.run(command, capture_output=True, text=True, check=False)
    assert end.returncode == 0, end.stderr
    return json.loads(end.stdout.splitlines()[-1]), end.stderr


@pytest.mark.parametrize("megabytes", [10, 50])  # where oneDNN cannot create its primitives, and where it can
@pytest.mark.slow
def test_a_step_that_does_not_fit_is_done_again_in_halved_passes(wide, megabytes):
    found, _ = limited(STEPS, wide, megabytes << 20)
    (spec,), source = wide.of_role("grid"), open_source(wide.config.data)
    learners = [make_learner(specs, source, CPU) for specs in ((spec,), packed((spec,), 1))]
    assert [type(learner) for learner in learners] == [ModuleLearner, PackedLearner]
    for halved, whole in zip(found, learners, strict=True):
        for step in range(3):
            whole.optimise(step, 1.0)
        rows = 128
        for note in halved["notes"]:
            assert f"out of memory with {rows} windows" in note
            rows //= 2
        assert halved["rows"] == rows < 128
        assert halved["loss_sums"] == pytest.approx(whole.loss_sums(), rel=1e-5)
        assert halved["losses"] == pytest.approx(whole.validate(), rel=1e-5)


def test_what_one_run_goes_on_without_the_next_one_has_again():
    fails = iter((RuntimeError("could not create a primitive"),))

    def work():
        for error in fails:
            raise error
        return "done"

    told = []
    try:
        assert with_room(work, told.append) == "done"
        assert len(told) == 1
        assert not torch.backends.mkldnn.enabled
    finally:
        make_repeatable(False)
    assert torch.backends.mkldnn.enabled


@pytest.mark.slow
def test_a_run_goes_on_with_halved_passes_and_says_so(wide, tmp_path):
    found, log = limited(RUN, wide, 90 << 20)
    assert found == {"ending": "done", "reason": ""}
    (spec,) = wide.of_role("grid")
    run = wide.run(spec)
    first, *_ = [notice.message for notice in run.notices()]
    assert first == "out of memory with 128 windows a pass: going on with 64"
    assert first in log
    whole = [e for e in train_one(spec, open_source(wide.config.data), tmp_path, CPU) if isinstance(e, Eval)]
    assert [e.loss for e in run.evals()] == pytest.approx([e.loss for e in whole], rel=1e-5)


def test_where_one_window_does_not_fit_the_run_fails_with_the_numbers(tiny_toml, tmp_path):
    wide = fresh(tiny_toml, tmp_path / "sweep", *WIDE, "data.seq_len=8_192")
    found, _ = limited(RUN, wide, 16 << 20)
    assert found["ending"] == "failed"
    reason = found["reason"]
    assert re.search(r"out of memory: .+ does not fit on the cpu: [\d.]+ [kMG]?B was asked for when", reason), reason
    assert re.search(r"when [\d.]+ [kMG]?B of [\d.]+ [MG]B were free; ", reason), reason
    assert "lower train.micro_rows or data.seq_len" in reason
    assert wide.run(wide.of_role("grid")[0]).failure().reason == reason


def test_a_run_that_had_to_halve_goes_on_so_after_a_stop(tiny_spec, tiny_source, tmp_path):
    run = train((tiny_spec,), tiny_source, (tmp_path,), CPU, (), Interruptions(StopAfter(3)))
    next(run)
    run.gi_frame.f_locals["pack"].learner.split(3)
    with pytest.raises(Paused):
        list(run)
    assert read_cursor(tmp_path / "trunk.safetensors", tiny_spec.run_id).rows == 3
    again = train((tiny_spec,), tiny_source, (tmp_path,), CPU)
    next(again)
    assert again.gi_frame.f_locals["pack"].learner.rows == 3
    assert all("weights" not in path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("runs", [0, 2])
@pytest.mark.slow
def test_passes_of_any_size_do_the_same_arithmetic(tiny_spec, tiny_source, runs, rows):
    specs = packed([tiny_spec.model_copy(update={"init_seed": run}) for run in range(max(1, runs))], runs or None)
    whole, split = make_learner(specs, tiny_source, CPU), make_learner(specs, tiny_source, CPU)
    split.split(rows)
    for step in range(8):
        whole.optimise(step, 1.0)
        split.optimise(step, 1.0)
    assert split.loss_sums() == pytest.approx(whole.loss_sums(), rel=1e-6)
    assert split.validate() == pytest.approx(whole.validate(), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("how", ["alone", "pack"])
def test_memory_that_runs_out_on_a_gpu(tiny_toml, tmp_path, how):
    config = load_config(
        tiny_toml, [*WIDE, "train.batch_tokens=1_048_576", "grid.tokens=[5_242_880]", "target.tokens=20_971_520"]
    )
    device, source = torch.device("cuda"), open_source(config.data)
    (spec,) = plan(config, source.facts).grid
    specs = packed((spec,), 1) if how == "pack" else (spec,)
    whole = make_learner(specs, source, device)
    for step in range(3):
        whole.optimise(step, 1.0)
    loss_sums, losses = whole.loss_sums(), whole.validate()
    del whole
    give_back()
    torch.cuda.reset_peak_memory_stats()
    halved = make_learner(specs, source, device)
    total = torch.cuda.mem_get_info(device)[1]
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + (2 << 30)) / total)
        for step in range(3):
            halved.optimise(step, 1.0)
        assert halved.rows is not None
        assert halved.loss_sums() == pytest.approx(loss_sums, rel=1e-5)
        assert halved.validate() == pytest.approx(losses, rel=1e-5)
        give_back()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + (1 << 20)) / total)
        with pytest.raises(RunFailed, match=r"does not fit on the cuda: .* was asked for when"):
            list(train(specs, source, (tmp_path,), device))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
