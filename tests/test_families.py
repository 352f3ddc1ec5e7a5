"""Families of transformers are looked at on fresh weights when runs are planned: causal, not random, of the rung's size."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from testbed.config import Model, load_config
from testbed.errors import ConfigError
from testbed.registry import allow_code
from testbed.training.models import find_family
from testbed.training.models.family_check import family_findings
from testbed.training.models.gpt import GPTFamily
from testbed.training.sweep import plan
from testbed.training.train import estimate
from testbed.training.train.learners import make_learner


def shaped(name, vocab_size=97, seq_len=16, **options):
    rule = Model(family=f"hf:{name}", head_size=8, depth=2, options=options)
    return find_family(f"hf:{name}").shape(16, rule, vocab_size, seq_len)


def looked_at(name, **options):
    return family_findings(shaped(name, **options).model_dump_json())


@pytest.mark.parametrize("name", ["bert", "roformer", "roberta"])
def test_a_family_that_sees_the_future_is_refused_with_the_option_that_mends_it(name):
    remedy = r"make it causal with is_decoder: \[model\] options = \{ is_decoder = true \}"
    with pytest.raises(ConfigError, match=rf"model\.family: hf:{name} sees the token that it is to predict.*{remedy}"):
        looked_at(name)
    looked_at(name, is_decoder=True)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neo", "opt", "bloom", "phi3", "glm4", "gptj"])
def test_families_that_small_models_use_have_the_size_of_the_rung(name):
    assert looked_at(name) == ()


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe"])
def test_of_experts_the_plan_says_that_n_counts_them_all(name):
    (sentence,) = looked_at(name)
    assert f"hf:{name} of width 16 has " in sentence
    assert "num_experts_per_tok = " in sentence


@pytest.mark.parametrize("name", ["mixtral", "opt", "gpt_neo", "bloom"])
def test_they_are_planned_and_trained(name, tiny_toml, tiny_source):
    """Memory on shapes alone, FLOPs in one way, two optimiser steps."""
    changes = [f"model.family=hf:{name}", "grid.widths=[16]", "train.pack=none", "model.depth=2"]
    config = load_config(tiny_toml, changes)
    spec = plan(config.model_copy(update={"target": None}), tiny_source.facts).grid[0]
    assert estimate(spec).bytes > 0
    learner = make_learner((spec,), tiny_source, torch.device("cpu"))
    for step in range(2):
        learner.optimise(step, 1.0)
    assert 0 < learner.loss_sums()[0] < 2 * 6


def test_the_cost_of_experts_is_that_of_those_that_take_a_token():
    """Of Mixtral's 8 experts 2: attention 4 d^2 and three matrices of 4 d^2 each, a router, scores, the head."""
    shape = shaped("mixtral")
    d, T, V = shape.width, shape.seq_len, shape.vocab_size
    products = 2 * (4 * d * d + 2 * 12 * d * d + 8 * d + 2 * T * d) + V * d
    assert find_family("hf:mixtral").counts(shape).flops_per_token == 3 * 2 * products


def test_the_check_says_what_a_family_refuses():
    with pytest.raises(
        ConfigError, match=r"model\.family: transformers refuses hf:reformer .*is_decoder=True.*\[model\.options\]"
    ):
        find_family("hf:reformer").counts(shaped("reformer"))
    with pytest.raises(ConfigError, match=r"transformers refuses hf:deepseek_v2 .*'k' must be int.*\[model\.options\]"):
        find_family("hf:deepseek_v2").counts(shaped("deepseek_v2"))


class Mixing(nn.Module):
    """A network whose states are mixed over all positions, or random, or neither."""

    mix, noise = 0.0, 0.0

    def __init__(self, shape):
        super().__init__()
        self.embed = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(nn.Linear(shape.width, shape.width) for _ in range(shape.depth))
        self.head = nn.Linear(shape.width, shape.vocab_size)

    def forward(self, ids):
        states = self.embed(ids)
        for block in self.blocks:
            states = states + block(states) + self.mix * states.mean(1, keepdim=True)
        return self.head(states + self.noise * torch.randn_like(states))


class Family(GPTFamily):
    def shape(self, width, rule, vocab_size, seq_len):
        return (
            super()
            .shape(width, rule, vocab_size, seq_len)
            .model_copy(update={"family": f"{__name__}:{type(self).__name__}"})
        )

    def build(self, shape, init_seed):
        return Mixing(shape)


class Leaking(Family):
    def build(self, shape, init_seed):
        network = Mixing(shape)
        network.mix = 0.1
        return network


class Random(Family):
    def build(self, shape, init_seed):
        network = Mixing(shape)
        network.noise = 0.1
        return network


@pytest.mark.parametrize(
    ("name", "message"),
    [("Leaking", "sees the token that it is to predict"), ("Random", "gives other logits each time"), ("Family", None)],
)
def test_families_of_ones_own_are_looked_at_too(name, message, tiny_toml, tiny_source):
    allow_code(f"{__name__}:{name}")
    config = load_config(tiny_toml, [f'model.family="{__name__}:{name}"', "train.pack=none"])
    if message is None:
        assert plan(config, tiny_source.facts).grid
        return
    with pytest.raises(ConfigError, match=message):
        plan(config, tiny_source.facts)


def test_padding_takes_no_token_of_the_vocabulary():
    """Phi-3's id of padding lies beyond 97 tokens; its networks need none, so every embedding is trained."""
    network = find_family("hf:phi3").build(shaped("phi3"), 0)
    assert network.lm.get_input_embeddings().padding_idx is None


def test_the_weights_are_of_their_seed_alone():
    """Whether padding had to be tried first makes no difference."""
    from testbed.training.models import hf

    first = find_family("hf:phi3").build(shaped("phi3", vocab_size=89), 3)
    hf._padding_of.cache_clear()
    with FakeTensorMode():
        find_family("hf:phi3").build(shaped("phi3", vocab_size=89), 3)
    again = find_family("hf:phi3").build(shaped("phi3", vocab_size=89), 3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_memory_is_found_by_running_a_network_where_shapes_do_not_do():
    """JetMoE's router reads values; its networks keep more of more windows, as on shapes."""
    from testbed.training.train.memory.footprint import _traced

    shape = shaped("jetmoe", num_local_experts=4)
    assert 0 < _traced(shape, 1, False, False) < _traced(shape, 2, False, False)
