"""The family `gpt` in transformers: a GPT-NeoX with sequential residuals and zero biases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from testbed.records import Shape


def as_gpt_neox(shape: Shape, weights: dict[str, Tensor]) -> Any:
    """A transformers GPTNeoXForCausalLM of `weights`, which are named as `gpt.GPT` names them; fp32.

    Rotary positions over the whole head with base 2 T, exact GELU, epsilon 1e-5 in the norms, a head of
    its own.
    """
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=shape.seq_len,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        use_parallel_residual=False,
        attention_bias=False,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 2.0 * shape.seq_len, "partial_rotary_factor": 1.0},
        bos_token_id=0,
        eos_token_id=0,
    )
    network = GPTNeoXForCausalLM(config)
    layers = list(zip(range(shape.depth), network.gpt_neox.layers, strict=True))
    theirs = {"embed": network.gpt_neox.embed_in, "norm": network.gpt_neox.final_layer_norm}
    theirs |= {"head": network.get_output_embeddings()}
    theirs |= {f"blocks.{i}.norm1": layer.input_layernorm for i, layer in layers}
    theirs |= {f"blocks.{i}.attend.qkv": layer.attention.query_key_value for i, layer in layers}
    theirs |= {f"blocks.{i}.attend.out": layer.attention.dense for i, layer in layers}
    theirs |= {f"blocks.{i}.norm2": layer.post_attention_layernorm for i, layer in layers}
    theirs |= {f"blocks.{i}.up": layer.mlp.dense_h_to_4h for i, layer in layers}
    theirs |= {f"blocks.{i}.down": layer.mlp.dense_4h_to_h for i, layer in layers}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for name, module in theirs.items():
            weight = weights[f"{name}.weight"]
            module.weight.copy_(_by_head(shape, weight) if name.endswith("qkv") else weight)
    return network.eval()


def _by_head(shape: Shape, qkv: Tensor) -> Tensor:
    """Reorder rows [3 d, d] from all q, all k, all v to q, k, v of one head after the other."""
    d = shape.width
    return qkv.view(3, shape.heads, shape.head_size, d).transpose(0, 1).reshape(3 * d, d)
