"""The loss on the frozen validation windows: token-weighted, summed in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from testbed.records import DataFacts
from testbed.training.train.scoring import Scored, scored_tokens

_LOGITS = 1 << 22  # about so many logits at a time


def validation_loss(
    network: nn.Module, windows: Tensor, facts: DataFacts, bf16: bool, rows: int | None = None
) -> float:
    """Mean loss in nats/token over all scored tokens of `windows` [n, T + 1]; the same for any `rows` at a time."""
    total = validation_sum(Scored(network, facts), windows, rows or quick_rows(facts), bf16)
    return float(total) / scored_tokens(len(windows), facts)


def quick_rows(facts: DataFacts) -> int:
    """Windows at a time whose logits stay near the processor."""
    return max(1, _LOGITS // (facts.seq_len * facts.vocab_size))


@torch.no_grad()
def validation_sum(scored: nn.Module, windows: Tensor, rows: int, bf16: bool) -> Tensor:
    """Sum in nats (float64, on its device) over the scored tokens of `windows` [n, T + 1], so many rows at a time."""
    scored.eval()
    with torch.autocast(windows.device.type, torch.bfloat16, enabled=bf16):
        total = torch.stack([scored(part) for part in torch.split(windows, rows)]).sum()
    scored.train()
    return total


def bits_per_byte(loss: float, facts: DataFacts) -> float | None:
    """nats/token to bits/byte of the validation text; None for tokens that stand for no bytes."""
    if facts.val_bytes is None:
        return None
    return loss * facts.val_tokens / (math.log(2) * facts.val_bytes)
