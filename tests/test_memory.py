"""The memory estimate against what a network really keeps, and the micro-batches chosen by it."""

import numpy as np
import pytest
import torch

from testbed.config import Train, Zipf, load_config
from testbed.errors import ConfigError
from testbed.records import Engine, Shape
from testbed.study import Study
from testbed.study.costs import estimate_costs
from testbed.training.data import open_source
from testbed.training.executors import choose_packs
from testbed.training.executors import pack_choice as packing
from testbed.training.executors.pack_choice import _side_by_side
from testbed.training.models import find_family
from testbed.training.sweep import packed, plan
from testbed.training.train import measure
from testbed.training.train.memory import peak as counting
from testbed.training.train.memory.footprint import available_bytes, estimate, fit_micro_rows, share_rows
from testbed.training.train.memory.passes import choose_passes, fastest
from testbed.training.train.memory.peak import peak
from testbed.training.train.module_learner import ModuleLearner
from testbed.training.train.scoring import BYTES_A_LOGIT, LOGITS_BYTES
from tests.helpers.single_runs import kept_bytes, shaped

pytestmark = pytest.mark.usefixtures("old_objects_kept")
CPU = torch.device("cpu")
FAMILIES = ["gpt", "hf:gpt2", "hf:llama", "hf:gpt_neox"]


@pytest.fixture(autouse=True)
def _one_round(monkeypatch):
    """Memory is measured before the clock counts, and times are not asked for: a round of one step is enough."""
    for name, value in (("_ROUNDS", 1), ("_LEAST", 1), ("_ROUND_SECONDS", 0.0)):
        monkeypatch.setattr(f"testbed.training.train.calibration.{name}", value)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_those_that_are_kept(tiny_spec, tiny_source, family, rows, precision):
    spec = shaped(tiny_spec, family, rows).model_copy(update={"precision": precision})
    found = estimate(spec)
    kept = kept_bytes(spec, tiny_source)
    assert kept == pytest.approx(found.activations + found.logits / 4, rel=0.05)  # the log-softmax is one in four


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_recomputed_blocks_are_reckoned_with(tiny_spec, tiny_source, family):
    spec = shaped(tiny_spec, family, depth=8, recompute=True)
    kept = kept_bytes(spec, tiny_source)
    found, plain = estimate(spec), estimate(shaped(tiny_spec, family, depth=8))
    block = (plain.activations - estimate(shaped(tiny_spec, family, depth=4)).activations) / 4
    assert kept == pytest.approx(found.activations - block + found.logits / 4, rel=0.05)
    assert found.activations < 0.5 * plain.activations


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_gradients_and_moments_are_exact(tiny_spec, tiny_source, family):
    spec = shaped(tiny_spec, family)
    learner = ModuleLearner(spec, tiny_source, CPU)
    learner.optimise(0, 1.0)
    found = estimate(spec)
    state = learner.state()
    assert found.weights == sum(t.nbytes for name, t in state.items() if name.startswith("weight/"))
    assert found.moments == sum(t.nbytes for name, t in state.items() if name.startswith("exp_avg"))
    assert found.gradients == found.weights
    held = found.weights + found.gradients + found.moments
    assert found.bytes == held + found.activations + found.backward + found.logits


def test_the_most_that_is_held_is_counted_even_if_it_is_let_go():
    mega = 1 << 20
    kept, most = peak(lambda: np.ones((3, 32 * mega), np.uint8)[0].copy(), CPU)
    assert kept.nbytes == 32 * mega
    assert most == pytest.approx(128 * mega, abs=4 * mega)
    _, less = peak(lambda: np.ones(16 * mega, np.uint8), CPU)
    assert less == pytest.approx(16 * mega, abs=4 * mega)


def test_where_nobody_counts_memory_it_is_reckoned_by_the_shape(tiny_spec, tiny_source, tmp_path, monkeypatch):
    monkeypatch.setattr(counting, "_PROCESS", tmp_path / "no process")
    assert peak(lambda: "done", CPU) == ("done", None)
    (found,) = measure([(tiny_spec,)], lambda _: tiny_source, CPU)
    assert found.memory is None
    assert packing.PackChoice((tiny_spec,), found).memory == estimate(tiny_spec).bytes


def test_packs_of_other_data_are_measured_with_their_own(tiny_config):
    wide = tiny_config.data.model_copy(update={"zipf": Zipf(vocab_size=128)})
    sources = [open_source(data) for data in (tiny_config.data, wide)]
    specs = [plan(tiny_config, source.facts).grid[0] for source in sources]
    by_vocabulary = {source.facts.vocab_size: source for source in sources}
    found = measure([(spec,) for spec in specs], lambda spec: by_vocabulary[spec.data.vocab_size], CPU)
    assert all(each.step > 0 for each in found)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_run_takes_when_measured_is_what_its_shape_says(tiny_spec, tiny_source, family):
    spec = shaped(tiny_spec, family, rows=64, width=64)
    (alone,) = measure([(spec,)], lambda _: tiny_source, CPU)
    assert 0.9 < alone.memory / estimate(spec).bytes < 1.6


@pytest.mark.slow
def test_packs_are_measured_whole_and_told_of_where_they_take_too_much(tiny_config, tiny_source, monkeypatch):
    made = plan(tiny_config, tiny_source.facts)
    spec = shaped(made.grid[0], "gpt", rows=64, width=64)
    three = packed([spec.model_copy(update={"init_seed": seed}) for seed in range(3)], 3)
    one, many = measure([(spec,), three], lambda _: tiny_source, CPU)
    assert 2 < many.memory / one.memory < 6  # libraries differ in what a packed product takes in passing
    roomy = choose_packs(made, tiny_config.train, lambda spec: tiny_source, CPU, 1)
    assert set(roomy.run_memory) == {run.run_id for run in roomy.plan.runs}
    assert not any("each worker may use" in sentence for sentence in roomy.sentences)
    monkeypatch.setattr(packing, "available_bytes", lambda device, sharers: 1000)
    tight = choose_packs(made, tiny_config.train, lambda spec: tiny_source, CPU, 1)
    widths = {run.shape.width for run in made.runs}
    assert sum("of the 1 kB that each worker may use" in s for s in tight.sentences) == len(widths)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_what_a_run_takes_on_a_gpu_is_what_its_shape_says(tiny_spec, tiny_source):
    spec = shaped(tiny_spec, "gpt", rows=4096, width=256)
    (found,) = measure([(spec,)], lambda _: tiny_source, torch.device("cuda"))
    assert 0.8 < found.memory / estimate(spec).bytes < 1.6


def test_micro_batches_shrink_what_is_kept_and_shards_what_is_held(tiny_spec):
    whole = estimate(shaped(tiny_spec, "gpt"))
    assert estimate(shaped(tiny_spec, "gpt", micro_rows=2)).activations == pytest.approx(
        whole.activations / 4, rel=1e-3
    )
    two = shaped(tiny_spec, "gpt", processes=2)
    assert share_rows(two) == 4
    assert estimate(two).activations == pytest.approx(whole.activations / 2, rel=1e-3)
    assert estimate(two).weights == whole.weights
    assert estimate(shaped(tiny_spec, "gpt", processes=2, sharded=True)).moments == whole.moments // 2
    assert estimate(shaped(tiny_spec, "gpt", pack=3)).bytes == 3 * whole.bytes


def test_the_largest_pass_that_fits(tiny_spec):
    spec = shaped(tiny_spec, "gpt", rows=12)

    def needed(rows):
        return estimate(shaped(tiny_spec, "gpt", rows=12, micro_rows=rows)).bytes

    assert fit_micro_rows(spec, needed(12)) == 12
    assert [fit_micro_rows(spec, needed(rows) + 1) for rows in (11, 8, 5, 4, 3, 1)] == [8, 8, 4, 4, 2, 1]
    assert fit_micro_rows(spec, needed(1) - 1) is None


def test_a_gpt2_of_1_5_billion_fits_a_gpu_of_80_gb_in_passes(tiny_spec):
    shape = Shape(family="gpt", width=1600, depth=48, heads=25, head_size=64, vocab_size=50_257, seq_len=1024)
    update = {"shape": shape, "counts": find_family("gpt").counts(shape), "batch_tokens": 512 * 1024}
    spec = tiny_spec.model_copy(update=update | {"precision": "bf16"})
    memory = estimate(spec.model_copy(update={"engine": Engine(micro_rows=1)}))
    assert memory.weights + memory.gradients + memory.moments == 16 * spec.counts.n_params_total
    assert memory.logits <= LOGITS_BYTES + 4 * shape.vocab_size * shape.width
    assert BYTES_A_LOGIT * shape.vocab_size * 512 * 1024 > 100 * LOGITS_BYTES
    rows = fit_micro_rows(spec, 68 * 10**9)
    assert rows is not None
    assert rows >= 8
    recomputed = spec.model_copy(update={"engine": Engine(recompute=True)})
    assert fit_micro_rows(recomputed, 68 * 10**9) > 2 * rows
    assert fit_micro_rows(spec, 20 * 10**9) is None


def test_runs_share_what_there_is():
    assert available_bytes(CPU, 2) == available_bytes(CPU) // 2 > 0


# --- what is chosen by it -----------------------------------------------------------------------


def test_a_batch_goes_through_at_once_where_it_fits(tiny_spec):
    spec = shaped(tiny_spec, "gpt")
    choice = choose_passes(spec, Train(), CPU, estimate(spec).bytes)
    assert choice.spec == spec
    assert choice.fits
    assert choice.sentence() == ""


def test_less_memory_makes_smaller_passes_and_then_recomputed_blocks(tiny_spec):
    spec = shaped(tiny_spec, "gpt", depth=8)
    by_two = shaped(tiny_spec, "gpt", depth=8, micro_rows=2)
    choice = choose_passes(spec, Train(), CPU, estimate(by_two).bytes + 100)
    assert choice.spec == by_two
    assert choice.sentence().startswith("width 64: 2 windows a pass; ")
    by_one = estimate(shaped(tiny_spec, "gpt", depth=8, micro_rows=1)).bytes
    tight = choose_passes(spec, Train(), CPU, by_one - 1)
    assert tight.fits
    assert tight.spec.engine.recompute
    assert "blocks recomputed" in tight.sentence()


def test_what_the_configuration_says_is_kept(tiny_spec):
    spec, plenty = shaped(tiny_spec, "gpt", micro_rows=2), 10**12
    assert choose_passes(spec, Train(micro_rows=2), CPU, plenty).spec == spec
    spec = shaped(tiny_spec, "gpt", recompute=True)
    assert choose_passes(spec, Train(recompute=True), CPU, plenty).spec == spec
    spec, by_one = shaped(tiny_spec, "gpt", depth=8), shaped(tiny_spec, "gpt", depth=8, micro_rows=1)
    never = choose_passes(spec, Train(recompute=False), CPU, estimate(by_one).bytes - 1)
    assert never.spec == by_one
    assert not never.fits


def test_shards_are_made_where_copies_do_not_fit(tiny_spec):
    spec = shaped(tiny_spec, "gpt", processes=2)
    held = 16 * spec.counts.n_params_total
    copies = choose_passes(spec, Train(processes=2), CPU, 4 * held)
    assert copies.spec.engine.processes == 2
    assert not copies.spec.engine.sharded
    shards = choose_passes(spec, Train(processes=2), CPU, held)
    assert shards.spec.engine.sharded
    assert "2 processes with shards" in shards.sentence()


@pytest.mark.slow
def test_the_fastest_is_one_of_those_that_were_tried(tiny_spec, tiny_source):
    spec = shaped(tiny_spec, "gpt")
    ways = [shaped(tiny_spec, "gpt", micro_rows=rows, recompute=again) for rows in (2, 8) for again in (False, True)]
    assert fastest(ways, tiny_source, CPU) in ways
    assert fastest([spec], tiny_source, CPU) == spec


@pytest.mark.slow
def test_the_plan_shows_memory_and_what_does_not_fit(tiny_toml, tmp_path):
    shown = estimate_costs(load_config(tiny_toml, ["train.pack='none'", "train.micro_rows=2"]), calibrate=False)
    assert [run["memory_bytes"] for run in shown.as_json()["runs"]] == [estimate(s).bytes for s in shown.plan.runs]
    assert {run["micro_rows"] for run in shown.as_json()["runs"]} == {2}
    assert any(line.startswith("width 8: 2 windows a pass; ") for line in shown.sentences())
    overrides = ["model.head_size=8", "model.depth=128", "target.width=8192", "train.pack='none'"]
    giant = load_config(tiny_toml, overrides)
    lines = estimate_costs(giant, calibrate=False).sentences()
    assert any(line.startswith("width 8192 does not fit: a process needs 1.65 TB of ") for line in lines)
    with pytest.raises(ConfigError, match=r"width 8192 does not fit: .*; share it among more GPUs"):
        Study.create(giant, tmp_path / "giant")
    assert not (tmp_path / "giant").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("recompute", [False, True])
def test_a_gpu_really_takes_about_that_much(tiny_spec, tiny_source, recompute):
    spec = shaped(tiny_spec, "gpt", rows=512, width=512, depth=8, recompute=recompute)
    spec = spec.model_copy(update={"precision": "bf16"})
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    learner = ModuleLearner(spec, tiny_source, torch.device("cuda"))
    learner._step()
    taken = torch.cuda.max_memory_allocated() - before
    assert 0.7 * estimate(spec).bytes < taken < 1.3 * estimate(spec).bytes


def test_packs_are_measured_as_far_as_memory_goes(tiny_spec):
    ways = [(shaped(tiny_spec, "gpt", pack=pack),) for pack in (None, 1, 2, 3)]
    needs = [estimate(way[0]).bytes for way in ways]
    assert needs == [needs[0], needs[0], 2 * needs[0], 3 * needs[0]]
    for fitting in range(1, 5):
        assert _side_by_side(ways, sum(needs[:fitting])) == ways[:fitting]
    assert _side_by_side(ways, 1) == ways[:1]
