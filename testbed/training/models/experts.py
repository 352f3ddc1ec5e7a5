"""Mixtures of experts of transformers, so that their memory and FLOPs can be found on shapes alone.

Which expert takes a token depends on values. Its cost does not: on tensors without content the first expert takes them all.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensor

_NAME = "testbed_experts"


@cache
def experts_on_shapes() -> str:
    """The name under which transformers finds these experts."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

    def forward(self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        if isinstance(hidden_states, FakeTensor) or hidden_states.is_meta:
            return _by_the_first(self, hidden_states, top_k_weights)
        output: Tensor = grouped_mm_experts_forward(self, hidden_states, top_k_index, top_k_weights)
        return output

    ALL_EXPERTS_FUNCTIONS.register(_NAME, forward)
    return _NAME


def _by_the_first(experts: Any, states: Tensor, weights: Tensor) -> Tensor:
    """What the experts of states [M, d] with weights [M, k] cost: each state k times through the first one."""
    count = weights.shape[-1]
    rows = states.repeat_interleave(count, 0)
    name = "gate_up_proj" if experts.has_gate else "up_proj"
    inner = _first(experts, name, rows)
    inner = experts._apply_gate(inner) if experts.has_gate else experts.act_fn(inner)
    outer = _first(experts, "down_proj", inner) * weights.reshape(-1, 1)
    return outer.view(*states.shape[:-1], count, states.shape[-1]).sum(-2).to(states.dtype)


def _first(experts: Any, name: str, rows: Tensor) -> Tensor:
    weight = getattr(experts, name)[0]
    bias = getattr(experts, f"{name}_bias")[0] if experts.has_bias else None
    return F.linear(rows, weight.T if experts.is_transposed else weight, bias)
