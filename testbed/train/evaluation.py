"""The loss on the frozen validation windows: token-weighted, summed in float64."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from testbed.records import DataFacts

_LOGITS = 1 << 22  # about so many logits at a time


def token_losses(logits: Tensor, windows: Tensor, first_scored: int) -> Tensor:
    """Cross-entropies in nats [B * (T - first_scored)] of logits [B, T, V] for windows [B, T + 1]."""
    scored = logits[:, first_scored:].float()
    return F.cross_entropy(scored.flatten(0, 1), windows[:, first_scored + 1 :].flatten(), reduction="none")


@torch.no_grad()
def validation_loss(
    network: nn.Module, windows: Tensor, facts: DataFacts, bf16: bool, rows: int | None = None
) -> float:
    """Mean loss in nats/token over all scored tokens of `windows` [n, T + 1]; the same for any `rows` at a time."""
    rows = rows or max(1, _LOGITS // (facts.seq_len * facts.vocab_size))
    total, count = 0.0, 0
    network.eval()
    for start in range(0, len(windows), rows):
        batch = windows[start : start + rows]
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=bf16):
            logits = network(batch[:, :-1])
        losses = token_losses(logits, batch, facts.first_scored)
        total += float(losses.double().sum())
        count += losses.numel()
    network.train()
    return total / count


def bits_per_byte(loss: float, facts: DataFacts) -> float | None:
    """nats/token to bits/byte of the validation text; None for tokens that stand for no bytes."""
    if facts.val_bytes is None:
        return None
    return loss * facts.val_tokens / (math.log(2) * facts.val_bytes)
