"""The memory estimate against what a network really keeps, and the micro-batches chosen by it."""

import numpy as np
import pytest
import torch

from testbed.models import find_family
from testbed.records import Engine, Shape
from testbed.train.memory import available_bytes, estimate, fit_micro_rows, share_rows
from testbed.train.module import ModuleLearner
from testbed.train.scoring import BYTES_A_LOGIT, LOGITS_BYTES

CPU = torch.device("cpu")
FAMILIES = ["gpt", "hf:gpt2", "hf:llama", "hf:gpt_neox"]


def shaped(spec, family, rows=8, width=64, depth=3, **engine):
    shape = spec.shape.model_copy(update={"family": family, "width": width, "heads": width // 8, "depth": depth})
    counts = find_family(family).counts(shape)
    return spec.model_copy(
        update={
            "shape": shape,
            "counts": counts,
            "engine": Engine(**engine),
            "batch_tokens": rows * shape.seq_len,
        }
    )


def kept_bytes(spec, source):
    """Bytes that a forward pass really keeps for the way back, those of the logits' losses included."""
    learner = ModuleLearner(spec, source, CPU)
    windows = torch.as_tensor(source.rows(1, 0, share_rows(spec)).astype(np.int64))
    own = {t.untyped_storage().data_ptr() for t in (*learner.network.parameters(), *learner.network.buffers())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=spec.precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), bf16:
        loss = learner._scored(windows)
    total = sum(kept.values())
    del loss
    return total


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_those_that_are_kept(tiny_spec, tiny_source, family, rows, precision):
    spec = shaped(tiny_spec, family, rows).model_copy(update={"precision": precision})
    found = estimate(spec)
    kept = kept_bytes(spec, tiny_source)
    assert kept == pytest.approx(found.activations + found.logits / 4, rel=0.05)  # the log-softmax is one in four


@pytest.mark.parametrize("family", FAMILIES)
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
    assert found.bytes == found.weights + found.gradients + found.moments + found.activations + found.logits


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
