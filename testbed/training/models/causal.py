"""Causal attention of transformers' networks by SDPA's own flag, with no mask, so that fused kernels may skip the future.

transformers (5.17 and 5.23) looks at the positions of tokens to tell whether sequences are packed. While torch.compile
traces, or a CUDA stream is captured, it cannot look, and makes a dense mask [B, 1, T, T] to be safe
(masking_utils.find_packed_sequence_indices): flash and cuDNN attention take no mask, and nothing is skipped. Windows of
the testbed are whole sequences, and for an attention under a name of one's own transformers makes no mask.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

_NAME = "testbed_causal"
_WINDOWS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}  # by kind of layer
_FEW = 8  # tokens on which both ways to attend are compared


def attend_causally(lm: Any, seq_len: int) -> None:
    """Have a causal LM of transformers attend without masks, where that is the same function of windows of `seq_len` tokens.

    It is not where a layer sees fewer tokens than a window has, or more than those before, or makes a mask of its own;
    nor can it be had of architectures that do not ask transformers' AttentionInterface. Those stay as they are.
    """
    if (
        lm.config._attn_implementation != "sdpa"
        or not lm._supports_attention_backend
        or not sees_all(lm.config, seq_len)
    ):
        return
    before = _few_logits(lm, seq_len)
    lm.set_attn_implementation(_registered())
    after = _few_logits(lm, seq_len)
    if not isinstance(before, FakeTensor) and not torch.equal(before, after):
        lm.set_attn_implementation("sdpa")


def sees_all(configuration: Any, seq_len: int) -> bool:
    """Whether, by its configuration, every layer attends to all of up to `seq_len` earlier tokens and to no later ones."""
    if getattr(configuration, "use_bidirectional_attention", None):
        return False
    kinds = set(getattr(configuration, "layer_types", None) or _WINDOWS)
    windows = [getattr(configuration, field, None) for kind, field in _WINDOWS.items() if kind in kinds]
    return kinds <= {"full_attention", *_WINDOWS} and all(window is None or window >= seq_len for window in windows)


@torch.no_grad()
def _few_logits(lm: Any, seq_len: int) -> Tensor:
    """Logits [1, T, V] of the first few token ids."""
    ids = torch.arange(min(_FEW, seq_len, lm.config.vocab_size))[None]
    logits: Tensor = lm(input_ids=ids, use_cache=False).logits
    return logits


@cache
def _registered() -> str:
    """The name under which transformers finds SDPA, and no function that makes masks for it."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(_NAME, sdpa_attention_forward)
    return _NAME
