"""Medium models through the family's module: micro-batches, logits in chunks, recomputed blocks."""

import numpy as np
import pytest
import torch
from torch import nn

from testbed.errors import ConfigError, RunFailed
from testbed.records import Engine
from testbed.training.models import find_family
from testbed.training.train import module_learner as module_under_test
from testbed.training.train.device.selection import set_precision
from testbed.training.train.evaluation import validation_loss
from testbed.training.train.learners import make_learner
from testbed.training.train.module_learner import ModuleLearner
from testbed.training.train.scoring import BYTES_A_LOGIT, Scored, chunk_tokens, scored_tokens, token_losses
from tests.helpers.single_runs import kept_bytes

CPU = torch.device("cpu")
FAMILIES = ["gpt", "hf:gpt2", "hf:llama", "hf:gpt_neox"]  # gpt2 ties its head to its embedding


def shaped(spec, family, **engine):
    """The spec with this family's shape of width 16, targets scored from position 2, and this engine."""
    shape = spec.shape.model_copy(update={"family": family, "width": 16, "heads": 2})
    data = spec.data.model_copy(update={"first_scored": 2})
    counts = find_family(family).counts(shape)
    return spec.model_copy(update={"shape": shape, "counts": counts, "data": data, "engine": Engine(**engine)})


def after(spec, source, steps=3, double=False):
    """Weights, training-loss sum and validation loss after a few steps."""
    learner = ModuleLearner(spec, source, CPU)
    if double:
        learner.network.double()
        for moments in learner.optimizer.state.values():
            moments.update({name: moments[name].double() for name in ("exp_avg", "exp_avg_sq")})
    for step in range(steps):
        learner.optimise(step, 1.0)
    return learner.weights(0), learner.loss_sums()[0], learner.validate()[0]


# --- micro-batches ----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])  # of a batch of 8 windows: 3 and 5 leave a smaller last pass
@pytest.mark.parametrize("family", ["gpt", "hf:gpt2"])
@pytest.mark.slow
def test_every_micro_batch_is_the_same_arithmetic(tiny_spec, tiny_source, family, rows):
    assert tiny_spec.batch_tokens // tiny_spec.shape.seq_len == 8
    whole = after(shaped(tiny_spec, family), tiny_source, double=True)
    parts = after(shaped(tiny_spec, family, micro_rows=rows), tiny_source, double=True)
    assert parts[1:] == pytest.approx(whole[1:], rel=1e-12)
    for name, weight in whole[0].items():
        torch.testing.assert_close(parts[0][name], weight, rtol=1e-9, atol=1e-12)
    single = after(shaped(tiny_spec, family), tiny_source)
    rounded = after(shaped(tiny_spec, family, micro_rows=rows), tiny_source)
    assert rounded[1:] == pytest.approx(single[1:], rel=2e-6)


def test_gradients_are_those_of_the_mean_over_all_scored_tokens(tiny_spec, tiny_source):
    spec = shaped(tiny_spec, "gpt", micro_rows=3)
    network = find_family("gpt").build(spec.shape, 0).double()
    windows = torch.as_tensor(tiny_source.rows(1, 0, 8).astype(np.int64))
    token_losses(network(windows[:, :-1]), windows, 2).mean().backward()
    plain = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()
    scored = Scored(network, spec.data)
    for part in windows.split(3):
        (scored(part) / scored_tokens(8, spec.data)).backward()
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.grad, plain[name], rtol=1e-12, atol=1e-15)


# --- logits in chunks -------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tokens", [1, 7, 64, 100])
def test_chunks_give_the_loss_and_gradients_of_the_whole(tiny_spec, tiny_source, family, tokens):
    spec = shaped(tiny_spec, family)
    network = find_family(family).build(spec.shape, 0).double()
    windows = torch.as_tensor(tiny_source.rows(1, 0, 8).astype(np.int64))
    whole = Scored(network, spec.data)(windows)
    (whole * 0.3).backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()
    chunked = Scored(network, spec.data, limit=tokens * BYTES_A_LOGIT * spec.data.vocab_size)
    loss = chunked(windows)
    (loss * 0.3).backward()
    assert loss.item() == pytest.approx(whole.item(), rel=1e-12)
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-10, atol=1e-14)
    with torch.no_grad():
        assert chunked(windows).item() == pytest.approx(whole.item(), rel=1e-12)


class Widest(nn.Module):
    """A head that remembers how many logits it ever made at once."""

    def __init__(self, head):
        super().__init__()
        self.head, self.most = head, 0

    def forward(self, hidden):
        logits = self.head(hidden)
        self.most = max(self.most, logits.numel())
        return logits


@pytest.mark.parametrize("grad", [True, False])
def test_no_more_logits_at_a_time_than_the_limit(tiny_spec, tiny_source, grad):
    spec = shaped(tiny_spec, "gpt")
    network = find_family("gpt").build(spec.shape, 0)
    network.head = Widest(network.head)
    windows = torch.as_tensor(tiny_source.rows(1, 0, 8).astype(np.int64))
    limit = 20 * BYTES_A_LOGIT * spec.data.vocab_size
    with torch.set_grad_enabled(grad):
        loss = Scored(network, spec.data, limit)(windows)
    if grad:
        loss.backward()
    assert 0 < network.head.most * BYTES_A_LOGIT <= limit


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_in_chunks_trains_as_one_without(tiny_spec, tiny_source, monkeypatch, precision):
    spec = shaped(tiny_spec, "gpt").model_copy(update={"precision": precision})
    whole = after(spec, tiny_source, steps=10)
    limit = 32 * BYTES_A_LOGIT * spec.data.vocab_size
    monkeypatch.setattr(module_under_test, "Scored", lambda network, facts: Scored(network, facts, limit))
    chunked = after(spec, tiny_source, steps=10)
    assert chunked[1:] == pytest.approx(whole[1:], rel=1e-5 if precision == "fp32" else 2e-3)


@pytest.mark.slow
def test_a_compiled_network_whose_logits_go_in_chunks_is_compiled_once(tiny_spec, tiny_source, monkeypatch):
    traced = []

    def compiler(graph, inputs):
        traced.extend(node for node in graph.graph.nodes if "scaled_dot" in str(node.target))
        return graph.forward

    compile_with = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda network, dynamic, options: compile_with(network, dynamic=dynamic, backend=compiler)
    )
    limit = BYTES_A_LOGIT * tiny_spec.shape.vocab_size * 128  # of 256 tokens
    monkeypatch.setattr(module_under_test, "Scored", lambda network, facts: Scored(network, facts, limit))
    torch._dynamo.reset()
    learners = [
        ModuleLearner(shaped(tiny_spec, "hf:gpt_neox", compile=again), tiny_source, CPU) for again in (True, False)
    ]
    for learner in learners:
        for step in range(3):
            learner.optimise(step, 0.5)
    compiled, plain = learners
    assert len(traced) == compiled._spec.shape.depth  # the attention of each layer is traced once
    assert compiled.loss_sums() == pytest.approx(plain.loss_sums(), rel=1e-6)


def test_long_chunks_are_of_a_size_that_products_are_quick_at():
    assert chunk_tokens(50257) % 128 == 0
    assert 0.9e9 < chunk_tokens(50257) * 50257 * BYTES_A_LOGIT <= 1e9
    assert chunk_tokens(2**30) == 1


def test_a_network_that_is_no_head_on_hidden_states_is_refused(tiny_spec, tiny_source):
    spec = shaped(tiny_spec, "gpt")
    windows = torch.as_tensor(tiny_source.rows(1, 0, 8).astype(np.int64))

    class Capped(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, ids):
            return 30 * torch.tanh(self.inner(ids) / 30)

    network = Capped(find_family("gpt").build(spec.shape, 0))
    Scored(network, spec.data)(windows)
    with pytest.raises(RunFailed, match=r"Capped cannot give them in chunks .*; lower train.micro_rows"):
        Scored(network, spec.data, limit=1000)(windows)
    network.head, network.hidden = network.inner.head, network.inner.hidden
    with pytest.raises(RunFailed, match="Capped cannot give them in chunks"):
        Scored(network, spec.data, limit=1000)(windows)


def test_validation_obeys_the_limit_even_for_one_row(tiny_spec, tiny_source, monkeypatch):
    spec = shaped(tiny_spec, "gpt")
    network = find_family("gpt").build(spec.shape, 0)
    windows = torch.as_tensor(tiny_source.validation().astype(np.int64))
    whole = validation_loss(network, windows, spec.data, bf16=False)
    network.head = Widest(network.head)
    limit = 10 * BYTES_A_LOGIT * spec.data.vocab_size  # a window has 32 tokens
    monkeypatch.setattr(
        "testbed.training.train.evaluation.Scored", lambda network, facts: Scored(network, facts, limit)
    )
    assert validation_loss(network, windows, spec.data, False, rows=1) == pytest.approx(whole, rel=1e-7)
    assert network.head.most * BYTES_A_LOGIT <= limit


# --- recomputed blocks ------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_blocks_change_no_bit(tiny_spec, tiny_source, family, precision):
    spec = shaped(tiny_spec, family).model_copy(update={"precision": precision})
    recomputed = spec.model_copy(update={"engine": Engine(recompute=True, micro_rows=None)})
    weights, *numbers = after(spec, tiny_source, steps=5)
    again, *others = after(recomputed, tiny_source, steps=5)
    assert numbers == others
    assert list(weights) == list(again)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_blocks_keep_less(tiny_spec, tiny_source, family):
    spec = shaped(tiny_spec, family)
    recomputed = spec.model_copy(update={"engine": Engine(recompute=True)})
    assert kept_bytes(recomputed, tiny_source) < 0.6 * kept_bytes(spec, tiny_source)


# --- precision --------------------------------------------------------------------------------


def test_tf32_is_refused_where_there_is_none(tiny_spec, tiny_source):
    spec = tiny_spec.model_copy(update={"precision": "tf32"})
    with pytest.raises(ConfigError, match=r'train\.precision: found "tf32", which only CUDA GPUs compute'):
        make_learner((spec,), tiny_source, CPU)


def test_tf32_is_asked_for_and_taken_back():
    set_precision("tf32", torch.device("cuda"))
    assert torch.get_float32_matmul_precision() == "high"
    set_precision("fp32", CPU)
    assert torch.get_float32_matmul_precision() == "highest"
