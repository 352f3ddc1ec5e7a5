import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from testbed.config import Model
from testbed.errors import ConfigError
from testbed.training.models import FAMILIES, find_family
from testbed.training.train.device.recompute import layers_of
from testbed.training.train.memory.footprint import estimate


def rung(name, width, depth=2, head_size=8, vocab=50, seq_len=16, **options):
    family = find_family(name)
    rule = Model(family=name, head_size=head_size, depth=depth, options=options)
    return family, family.shape(width, rule, vocab, seq_len)


def training_flops(network, shape):
    """FLOPs of one window, forward and backward, counted by torch with attention as plain products."""
    ids = torch.randint(0, shape.vocab_size, (1, shape.seq_len))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        logits = network(ids)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    return counter.get_total_flops()


@given(
    heads=st.integers(1, 6),
    head_size=st.sampled_from([4, 8, 16]),
    depth=st.integers(1, 4),
    vocab=st.integers(2, 300),
    seq_len=st.integers(2, 64),
)
@settings(deadline=None, max_examples=30)
@pytest.mark.slow
def test_gpt_counts_are_those_of_the_built_network(heads, head_size, depth, vocab, seq_len):
    family, shape = rung("gpt", heads * head_size, depth, head_size, vocab, seq_len)
    counts, network = family.counts(shape), family.build(shape, 0)
    outside = network.embed.weight.numel() + network.head.weight.numel()
    assert counts.n_params_total == sum(p.numel() for p in network.parameters())
    assert counts.n_params_non_embedding == counts.n_params_total - outside
    assert counts.flops_per_token * seq_len == training_flops(network, shape)


@pytest.mark.parametrize("name", [*FAMILIES, "hf:qwen3", "hf:mistral"])
@pytest.mark.parametrize(("width", "depth"), [(16, 2), (48, 3)])
def test_every_family_counts_what_it_builds(name, width, depth):
    family, shape = rung(name, width, depth)
    counts, network = family.counts(shape), family.build(shape, 0)
    assert counts.n_params_total == sum(p.numel() for p in network.parameters())
    assert 0 < counts.n_params_non_embedding < counts.n_params_total
    assert counts.flops_per_token * shape.seq_len == training_flops(network, shape)


def test_closed_forms_of_gpt2_and_llama():
    d, depth, vocab, seq_len = 32, 3, 100, 16
    family, shape = rung("hf:gpt2", d, depth, vocab=vocab, seq_len=seq_len)
    hidden = depth * (12 * d * d + 13 * d) + 2 * d  # biases and both norms' gains and offsets in
    assert family.counts(shape).n_params_non_embedding == hidden
    assert family.counts(shape).n_params_total == hidden + (vocab + seq_len) * d  # tied head, learned positions
    family, shape = rung("hf:llama", d, depth, vocab=vocab, seq_len=seq_len)
    hidden = depth * (4 * d * d + 3 * d * 4 * d + 2 * d) + d
    assert family.counts(shape).n_params_non_embedding == hidden
    assert family.counts(shape).flops_per_token == 6 * (depth * 16 * d * d + vocab * d) + 12 * depth * seq_len * d


def test_our_gpt_is_transformers_gpt_neox_with_the_same_weights():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    family, shape = rung("gpt", 32, depth=3)
    ours = family.build(shape, 3)
    config = GPTNeoXConfig(
        vocab_size=shape.vocab_size,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=shape.seq_len,
        hidden_act="gelu",
        use_parallel_residual=False,
        attention_bias=False,
        rope_parameters={"rope_type": "default", "rope_theta": 2.0 * shape.seq_len, "partial_rotary_factor": 1.0},
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = GPTNeoXForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.zero_()
        theirs.gpt_neox.embed_in.weight.copy_(ours.embed.weight)
        theirs.get_output_embeddings().weight.copy_(ours.head.weight)
        theirs.gpt_neox.final_layer_norm.weight.copy_(ours.norm.weight)
        for block, layer in zip(ours.blocks, theirs.gpt_neox.layers, strict=True):
            # theirs keeps q, k, v of each head together, ours all heads of q, then of k, then of v
            qkv = block.attend.qkv.weight.view(3, 4, 8, 32).transpose(0, 1).reshape(96, 32)
            layer.attention.query_key_value.weight.copy_(qkv)
            layer.attention.dense.weight.copy_(block.attend.out.weight)
            layer.mlp.dense_h_to_4h.weight.copy_(block.up.weight)
            layer.mlp.dense_4h_to_h.weight.copy_(block.down.weight)
            layer.input_layernorm.weight.copy_(block.norm1.weight)
            layer.post_attention_layernorm.weight.copy_(block.norm2.weight)
        ids = torch.randint(0, shape.vocab_size, (3, shape.seq_len))
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_position_sees_the_future(name):
    family, shape = rung(name, 16)
    network = family.build(shape, 0).eval()
    ids = torch.randint(0, shape.vocab_size, (2, shape.seq_len))
    other = ids.clone()
    other[:, 9:] = (other[:, 9:] + 1) % shape.vocab_size
    with torch.no_grad():
        torch.testing.assert_close(network(ids)[:, :9], network(other)[:, :9], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_come_from_the_seed_alone(name):
    family, shape = rung(name, 16)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    first, again, other = (family.build(shape, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_matrices_are_all_but_embeddings_head_and_vectors(name):
    family, shape = rung(name, 16)
    network = family.build(shape, 0)
    hidden = family.hidden_matrices(network)
    rest = {n: p for n, p in network.named_parameters() if n not in hidden}
    assert all(p.dim() >= 2 for n, p in network.named_parameters() if n in hidden)
    assert all(p.dim() == 1 or shape.vocab_size in p.shape or shape.seq_len in p.shape for p in rest.values())
    assert sum(p.numel() for p in network.parameters()) > sum(p.numel() for p in rest.values())


def test_dropout_is_off():
    for name in FAMILIES:
        family, shape = rung(name, 16)
        network = family.build(shape, 0).train()
        ids = torch.randint(0, shape.vocab_size, (2, shape.seq_len))
        assert torch.equal(network(ids), network(ids))


def test_depth_by_rule_keeps_the_head_size():
    family = find_family("gpt")
    rule = Model(head_size=16, width_per_layer=32)
    shapes = [family.shape(width, rule, 100, 16) for width in (32, 64, 128, 256)]
    assert [(s.depth, s.heads, s.head_size) for s in shapes] == [(2, 2, 16), (2, 4, 16), (4, 8, 16), (8, 16, 16)]


def test_options_of_a_transformers_configuration():
    family, shape = rung("hf:llama", 32, num_key_value_heads=1)
    grouped = family.counts(shape).n_params_total
    family, shape = rung("hf:llama", 32)
    assert grouped < family.counts(shape).n_params_total
    family, shape = rung("hf:llama", 32, kv_heads=1)
    with pytest.raises(ConfigError, match=r"model\.options\.kv_heads: unknown .*num_key_value_heads"):
        family.counts(shape)


@pytest.mark.parametrize("name", ["gtp", "hf:", "hf:no_such_model", "no.module:Family", "json:Nothing"])
def test_unknown_families_list_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"accepted|not agreed to run"):
        family, shape = rung(name, 16)
        family.counts(shape)


class Experts(torch.nn.Module):
    """Two layers of five experts each, so that the longest list is not that of the layers."""

    def __init__(self, reads_values):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(16, 8), torch.nn.Linear(8, 16)
        self.layers = torch.nn.ModuleList(torch.nn.Module() for _ in range(2))
        for layer in self.layers:
            layer.experts = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(5))
            layer.forward = lambda x, layer=layer: x + sum(expert(x).tanh() for expert in layer.experts)
        self.reads_values = reads_values

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[ids.nonzero()[:, 0]] if self.reads_values else x)


class ExpertsFamily(type(find_family("gpt"))):
    reads_values = False

    def build(self, shape, init_seed):
        return Experts(self.reads_values)

    def layers(self, network):
        return network.layers


class ReadingFamily(ExpertsFamily):
    reads_values = True


def test_layers_are_those_that_the_family_says():
    network = Experts(False)
    assert layers_of(network, find_family("gpt")) == tuple(network.layers[0].experts)
    assert layers_of(network, ExpertsFamily()) == tuple(network.layers)


def test_a_network_that_reads_values_is_refused_in_a_sentence(tiny_spec):
    def named(kind):
        family = f"{kind.__module__}:{kind.__qualname__}"
        return tiny_spec.model_copy(update={"shape": tiny_spec.shape.model_copy(update={"family": family})})

    assert estimate(named(ExpertsFamily)).activations > 0
    with pytest.raises(
        ConfigError, match=r"the network of '.*ReadingFamily' cannot be traced on shapes alone \(Dynamic.*\); "
    ):
        estimate(named(ReadingFamily))
