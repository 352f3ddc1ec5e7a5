"""Whole-step graphs, compiled networks, and learners that are used again; what needs a GPU is marked so."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from testbed.config import Config, load_config
from testbed.records import Engine
from testbed.training import sweep
from testbed.training.executors.engines import choose_engines
from testbed.training.models import can_pack
from testbed.training.models.packed_gpt import _places
from testbed.training.sweep import packed
from testbed.training.train import Logged, compiling_pays, train
from testbed.training.train.device.cuda_graphs import WholeStep, captures
from testbed.training.train.feed import ResidentFeed
from testbed.training.train.learners import _likeness, make_learner
from testbed.training.train.module_learner import ModuleLearner
from testbed.training.train.packed_learner import PackedLearner
from tests.helpers.devices import DEVICES, PACKS, gpu, runs

CPU = torch.device("cpu")


def learned(learner, steps=range(4)):
    """What the learner says and is after a few steps."""
    for step in steps:
        learner.optimise(step, 0.5 + step / 10)
    state = {name: tensor.detach().cpu().clone() for name, tensor in learner.state().items()}
    return learner.loss_sums(), learner.validate(), state


def same(first, second):
    return first[:2] == second[:2] and all(torch.equal(first[2][name], second[2][name]) for name in first[2])


# --- learners used again ----------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pack", PACKS)
def test_a_learner_that_takes_up_other_runs_is_as_good_as_new(tiny_spec, tiny_source, pack, device):
    first, second = runs(tiny_spec, pack), runs(tiny_spec, pack, seeds=(5, 6, 7), factors=(0.7, 1.4, 0.2))
    device = torch.device(device)
    kind = ModuleLearner if pack is None else PackedLearner

    def new(specs):
        return kind(specs[0] if pack is None else specs, tiny_source, device)

    learner = new(first)
    before = learned(learner)
    learner.restart(second)
    after = learned(learner)
    assert not same(before, after)
    assert same(after, learned(new(second)))


def test_runs_are_alike_that_differ_in_seeds_rates_and_horizons_only(tiny_spec):
    def likeness(specs):
        return _likeness(specs, CPU)

    specs = runs(tiny_spec, 3)
    assert likeness(specs) == likeness(runs(tiny_spec, 3, seeds=(4, 5, 6), factors=(0.1, 0.2, 0.3)))
    assert likeness(specs) == likeness(runs(tiny_spec, 3, horizons=tiny_spec.horizons[:1], role="target"))
    others = [
        runs(tiny_spec, 1),
        runs(tiny_spec, None),
        runs(tiny_spec, 3, factors=(1.0, 1.0, 2.0)),  # runs of one rate share an update
        runs(tiny_spec, 3, batch_tokens=512),
        runs(tiny_spec, 3, clip=None),
        runs(tiny_spec, 3, deterministic=not tiny_spec.deterministic),
        tuple(spec.model_copy(update={"data_seed": 1}) for spec in specs),
        tuple(spec.model_copy(update={"data_seed": 1}) for spec in specs[:1]) + specs[1:2] * 2,
    ]
    assert len({likeness(other) for other in [specs, *others]}) == len(others) + 1


def test_on_a_cpu_no_learner_is_kept(tiny_spec, tiny_source, tmp_path):
    specs, before = runs(tiny_spec, 1, horizons=tiny_spec.horizons[:1]), captures.copy()
    list(train(specs, tiny_source, (tmp_path,), CPU))
    assert make_learner(specs, tiny_source, CPU) is not make_learner(specs, tiny_source, CPU)
    assert captures == before


# --- torch.compile ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_a_compiled_step_learns_the_same_and_runs_of_a_shape_share_it(tiny_spec, tiny_source, device):
    device = torch.device(device)
    runs_of_a_shape = [tiny_spec.model_copy(update={"init_seed": seed, "data_seed": seed}) for seed in (3, 4)]
    counters.clear()
    for spec in runs_of_a_shape:
        plain = learned(ModuleLearner(spec, tiny_source, device))
        compiled = learned(ModuleLearner(with_engine(spec, compile=True), tiny_source, device))
        assert compiled[0] == pytest.approx(plain[0], rel=1e-5)
        assert compiled[1] == pytest.approx(plain[1], rel=1e-5)
        assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_a_configuration_says_what_is_compiled(tiny_config, tiny_source):
    def made(**train):
        config = tiny_config.model_copy(update={"train": tiny_config.train.model_copy(update=train)})
        plan = sweep.plan(config, tiny_source.facts)
        return choose_engines(plan, config.train, CPU, 1).plan.grid[0]

    assert made(compile=True).engine.compile
    assert not made(compile=False).engine.compile
    assert not made().engine.compile  # on a CPU it is never paid back
    assert made(compile=True).run_id != made().run_id
    assert can_pack(made(compile=True))
    assert not packed((made(compile=True),), 1)[0].engine.compile
    with pytest.raises(ValueError, match=r"train\.compile = true .* take 2"):
        Config.model_validate(tiny_config.model_dump() | {"train": {"compile": True, "processes": 2}})
    assert compiling_pays(1e17)
    assert not compiling_pays(1e15)


def with_engine(spec, **engine):
    return spec.model_copy(update={"engine": Engine(**engine)})


def test_rates_held_in_tensors_are_those_of_the_schedule(tiny_spec, tiny_source):
    """As they are on CUDA, where the very optimiser step that is captured reads them."""
    plain, held = (PackedLearner(runs(tiny_spec, 3), tiny_source, CPU) for _ in range(2))
    rates = torch.zeros(len(held.optimizer.param_groups))
    for group, rate in zip(held.optimizer.param_groups, rates.unbind(), strict=True):
        group["lr"] = rate
    found, expected = learned(held), learned(plain)
    for group, rate in zip(plain.optimizer.param_groups, rates, strict=True):
        assert float(rate) == pytest.approx(group["lr"], rel=1e-7)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert found[1] == pytest.approx(expected[1], rel=1e-6)


def test_the_ways_of_a_gpu_to_the_gradients_of_tables_are_those_of_a_cpu():
    """Products with the tokens' places instead of sorted sums; the rest of the packed network is the same code."""
    K, M, V, d = 2, 50, 7, 5
    ids, dx = torch.randint(V, (K, M)), torch.randn(K, M, d)
    summed = torch.zeros(K * V, d).index_add_(0, (ids + V * torch.arange(K)[:, None]).flatten(), dx.flatten(0, 1))
    torch.testing.assert_close(torch.bmm(_places(ids, V), dx), summed.view(K, V, d))


# --- graphs ---------------------------------------------------------------------------------------


def test_without_a_gpu_a_whole_step_is_the_step(tiny_spec):
    done = []
    step = WholeStep("a shape", capture=False)
    for _ in range(2):
        step(lambda: done.append(len(done)), dict)
    assert done == [0, 1]
    assert not step.captured


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("pack", PACKS)
def test_a_graph_learns_what_eager_steps_learn(tiny_spec, tiny_source, pack, deterministic, precision, device):
    from testbed.training.train.device.selection import make_repeatable

    make_repeatable(deterministic)
    specs = runs(tiny_spec, pack, precision=precision, deterministic=deterministic)
    before = captures.total()
    captured = learned(make_learner(specs, tiny_source, torch.device(device)))
    assert captures.total() == before + 1
    eager = make_learner(specs, tiny_source, torch.device(device))
    eager.whole_step = WholeStep("eager", capture=False)
    found = learned(eager)
    assert captured[0] == pytest.approx(found[0], rel=1e-3 if precision == "bf16" else 1e-5)
    assert captured[1] == pytest.approx(found[1], rel=1e-3 if precision == "bf16" else 1e-5)
    for name, tensor in found[2].items():
        if name.startswith("step/"):
            assert torch.equal(captured[2][name], tensor)  # the warm-up's steps are undone


@gpu
def test_a_step_that_cannot_be_captured_stays_eager_and_says_why(tiny_spec, tiny_source, caplog, device):
    specs = runs(tiny_spec, None)

    class Waiting(ModuleLearner):
        def _step(self):
            super()._step()
            float(self._loss_sum)  # waits for the device, which no capture may

    found = learned(Waiting(specs[0], tiny_source, torch.device(device)))
    assert "cannot be captured and stays eager" in caplog.text
    assert found[0] == pytest.approx(learned(ModuleLearner(specs[0], tiny_source, torch.device(device)))[0], rel=1e-5)


@gpu
@pytest.mark.parametrize("pack", PACKS)
def test_a_shape_is_captured_once(tiny_spec, tiny_source, tmp_path, pack, device):
    device, before = torch.device(device), captures.total()
    kept = {}
    for turn, seeds in enumerate([(20, 21, 22), (30, 31, 32), (20, 21, 22)]):
        specs = runs(tiny_spec, pack, seeds=seeds)
        folders = tuple(tmp_path / f"{turn}-{place}" for place in range(len(specs)))
        for folder in folders:
            folder.mkdir()
        events = list(train(specs, tiny_source, folders, device))
        assert captures.total() == before + 1  # for three horizons of three packs
        losses = [(e.run, e.evaluation.model_dump(exclude={"seconds"})) for e in events if isinstance(e, Logged)]
        if seeds in kept:
            assert losses == kept[seeds]
        kept[seeds] = losses


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_packed_runs_learn_what_the_module_learns(tiny_spec, tiny_source, precision, device):
    specs = runs(tiny_spec, 3, precision=precision)
    losses = learned(make_learner(specs, tiny_source, torch.device(device)))[1]
    for spec, loss in zip(specs, losses, strict=True):
        alone = with_engine(spec)
        found = learned(make_learner((alone,), tiny_source, torch.device(device)))[1]
        assert found[0] == pytest.approx(loss, rel=1e-2 if precision == "bf16" else 1e-4)


# --- repeatable ---------------------------------------------------------------------------------------

WORKER = """
import sys
from pathlib import Path
import torch
from testbed.config import load_config
from testbed.training.data import open_source
from testbed.records import Engine
from testbed.training.sweep import packed, plan
from testbed.training.train import Interruptions, Logged, train

config = load_config(Path(sys.argv[1]))
source = open_source(config.data)
specs = plan(config, source.facts).grid[:2]
pack = int(sys.argv[3])
specs = packed(specs, pack) if pack else specs[:1]
folder = Path(sys.argv[2])
for event in train(specs, source, (folder,) * len(specs), torch.device("cuda"), (), Interruptions(checkpoint_seconds=0.0)):
    if isinstance(event, Logged):
        print(event.run, event.evaluation.model_dump_json(exclude={"seconds"}), flush=True)
"""


def worker(tiny_toml, folder, pack):
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), str(tiny_toml), str(folder), str(pack)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
    )


@gpu
@pytest.mark.slow
@pytest.mark.parametrize("pack", [0, 2])
def test_the_same_seed_and_a_killed_run_give_identical_losses(tiny_toml, tmp_path, pack, device):
    outputs = [worker(tiny_toml, tmp_path / name, pack).communicate()[0].splitlines() for name in ("once", "twice")]
    assert outputs[0] == outputs[1] and len(outputs[0]) > 8
    seen = []
    for lines in (3, 7, None):
        process = worker(tiny_toml, tmp_path / "killed", pack)
        assert process.stdout is not None
        for line in process.stdout:
            seen.append(line.rstrip("\n"))
            if lines is not None and len(seen) >= lines:
                time.sleep(0.2)
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.close()
        process.wait()
    assert set(seen) == set(outputs[0])  # some are said twice: those after the last checkpoint


# --- sizes --------------------------------------------------------------------------------------------


@gpu
def test_the_fused_attention_takes_our_shapes(device):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    for head_size in (64, 128):
        q, k, v = torch.randn(3, 4, 2, 256, head_size, device=device, dtype=torch.bfloat16)
        q.requires_grad_()
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
        assert q.grad is not None and q.grad.isfinite().all()


@gpu
def test_logits_in_chunks_take_a_bounded_memory(device):
    from testbed.records import DataFacts, Shape
    from testbed.training.models import find_family
    from testbed.training.train.scoring import LOGITS_BYTES, Scored

    vocab, T, B = 50_304, 1024, 32
    shape = Shape(family="gpt", width=128, depth=1, heads=2, head_size=64, vocab_size=vocab, seq_len=T)
    facts = DataFacts(
        source="", tokenizer="", vocab_size=vocab, seq_len=T, first_scored=0, train_tokens=None, val_tokens=T,
        val_bytes=None, entropy=None, fingerprint="",
    )  # fmt: skip
    scored = Scored(find_family("gpt").build(shape, 0).to(device), facts)
    windows = torch.randint(vocab, (B, T + 1), device=device)
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    with torch.autocast("cuda", torch.bfloat16):
        loss = scored(windows)
    loss.backward()
    activations = 100 * B * T * shape.width * 4
    assert torch.cuda.max_memory_allocated() - held < LOGITS_BYTES + activations + 8 * vocab * shape.width * 4
    assert 4 * B * T * vocab > 6e9  # what the logits alone would take at once


@gpu
def test_the_feed_looks_ahead_while_steps_are_replayed(tiny_spec, tiny_source, device):
    feed = ResidentFeed((tiny_spec,), tiny_source, torch.device(device), shard_bytes=4000)
    rows = tiny_spec.batch_tokens // tiny_spec.shape.seq_len
    for step in range(60):
        feed.seek(step)
        expected = torch.as_tensor(tiny_source.rows(tiny_spec.data_seed, step * rows, rows)).long()
        assert torch.equal(feed.windows()[0].cpu(), expected)


# --- the studies for a GPU ------------------------------------------------------------------------------

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("name, text", [("gpu_ladder", False), ("gpu_ladder_text", True)])
def test_the_ladders_for_a_gpu_are_what_their_headers_say(tiny_source, name, text):
    config = load_config(CONFIGS / f"{name}.toml")
    vocab = 257 if text else config.data.zipf.vocab_size
    facts = tiny_source.facts.model_copy(update={"vocab_size": vocab, "seq_len": config.data.seq_len})
    made = sweep.plan(config, facts)
    sizes = sorted({spec.counts.n_params_non_embedding for spec in made.grid})
    assert len(sizes) == 5
    assert 1e6 < sizes[0] < 2e6 and 8e7 < sizes[-1] < 1e8
    assert {len(spec.horizons) for spec in made.grid} == {4}
    assert len(made.grid) == 10
    largest = max(spec.counts.flops_per_token * spec.horizons[-1].tokens for spec in made.grid)
    (target,) = made.target
    assert target.counts.flops_per_token * target.horizons[-1].tokens >= 10 * largest
    assert made.warnings == ()
    header = (CONFIGS / f"{name}.toml").read_text()
    for role, specs in (("grid", made.grid), ("target", made.target)):
        assert f"{sum(spec.flops for spec in specs):.1e}".replace("e+", "e") in header, role


def test_the_language_of_the_ladder_has_the_entropy_of_its_header():
    zipf = load_config(CONFIGS / "gpu_ladder.toml").data.zipf
    q = np.concatenate(
        [m / n / (1 / n).sum() for m, s in zip(zipf.mass, zipf.successors, strict=True) for n in [np.arange(1, s + 1)]]
    )
    assert f"{-(q * np.log(q)).sum():.4f} nats/token" in (CONFIGS / "gpu_ladder.toml").read_text()


@pytest.mark.slow
def test_gpt2_has_gpt2s_size(tiny_source):
    config = load_config(CONFIGS / "gpt2_124m.toml")
    facts = tiny_source.facts.model_copy(update={"vocab_size": config.data.vocab_size, "seq_len": 1024})
    (spec,) = sweep.plan(config, facts).grid
    assert spec.counts.n_params_total == pytest.approx(124.4e6, rel=1e-3)
    assert spec.batch_tokens == 2**19
