"""Families of transformers attend causally without a mask, compiled and captured too, and are the same function."""

import pytest
import torch
import torch.nn.functional as F

from testbed.records import Shape
from testbed.training.models import find_family
from testbed.training.models.hf import HuggingFaceFamily, LogitsOnly

T = 16
CAUSAL = ["gpt2", "llama", "gpt_neox", "qwen3", "mistral", "gemma3_text", "olmo2", "phi"]
MASKED = [  # what a layer sees is not all that came before
    ("mistral", {"sliding_window": 8}),
    ("gemma3_text", {"sliding_window": 8}),
    ("llama4_text", {"attention_chunk_size": 8}),
    ("doge", {}),  # makes a mask of its own
]


def shaped(name, **options):
    return Shape(
        family=f"hf:{name}", width=32, depth=2, heads=2, head_size=16, vocab_size=97, seq_len=T, options=options
    )


def ours(name, **options):
    return find_family(f"hf:{name}").build(shaped(name, **options), 0)


def theirs(name, **options):
    configuration = HuggingFaceFamily(name).configuration(shaped(name, **options))
    torch.manual_seed(0)
    return LogitsOnly(configuration)


@pytest.fixture
def ids():
    return torch.randint(97, (3, T), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def attended(monkeypatch):
    """For each call of SDPA whether a mask was given and whether it was told to be causal."""
    calls, attend = [], F.scaled_dot_product_attention

    def watched(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, **more):
        calls.append((attn_mask is not None, is_causal))
        return attend(q, k, v, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, **more)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return calls


@pytest.mark.parametrize("name", CAUSAL)
def test_logits_are_bit_for_bit_those_of_transformers(name, ids):
    assert torch.equal(ours(name)(ids), theirs(name)(ids))


@pytest.mark.parametrize("name", CAUSAL)
def test_no_mask_is_made_while_a_stream_is_captured(name, ids, attended, monkeypatch):
    network = ours(name)
    attended.clear()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    network(ids)
    assert set(attended) == {(False, True)}


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3_text"])  # the least alike
@pytest.mark.slow
def test_no_mask_is_made_while_a_network_is_compiled(name, ids):
    found = set()

    def backend(graph, inputs):
        attentions = [node for node in graph.graph.nodes if "scaled_dot" in str(node.target)]
        found.update((node.kwargs.get("attn_mask") is not None, node.kwargs.get("is_causal")) for node in attentions)
        return graph.forward

    torch._dynamo.reset()
    torch.compile(ours(name), backend=backend, dynamic=False)(ids)
    assert found == {(False, True)}


@pytest.mark.parametrize(("name", "options"), MASKED)
def test_a_family_that_needs_its_mask_keeps_it(name, options, ids, attended, monkeypatch):
    network, reference = ours(name, **options), theirs(name, **options)
    assert torch.equal(network(ids), reference(ids))
    attended.clear()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    network(ids)
    assert (True, False) in attended


def test_a_window_as_long_as_the_sequence_needs_no_mask(ids, attended, monkeypatch):
    network = ours("mistral", sliding_window=T)
    attended.clear()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    network(ids)
    assert set(attended) == {(False, True)}


def test_what_is_saved_names_no_attention_of_ours(tmp_path):
    ours("gpt2").lm.save_pretrained(tmp_path)
    assert "testbed" not in (tmp_path / "config.json").read_text()
