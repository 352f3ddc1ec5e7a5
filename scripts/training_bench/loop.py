"""A plain loop as one writes it by hand, on a GPT-2 with the usual economies. See __init__.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.training_bench.sizes import RATE, ReadyTokens, Size


def plain_loop(tick: Callable[[], None], size: Size, device: str, compiled: bool) -> None:
    """A loop as one writes it by hand: forward, backward, clip, fused AdamW; nothing logged."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if device == "cuda" else "highest")
    network: Any = PlainGPT(size).to(device)
    matrices = [p for p in network.parameters() if p.dim() >= 2]
    others = [p for p in network.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)
    if compiled:
        network = torch.compile(network)
    for ids, targets in _batches(size, device):
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = network(ids)
            loss = F.cross_entropy(logits.view(-1, size.vocab_size), targets.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tick()


def _batches(size: Size, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    windows = ReadyTokens(size).tensor().to(device)
    for step in count():
        start = step * size.rows % (len(windows) - size.rows)
        batch = windows[start : start + size.rows]
        yield batch[:, :-1], batch[:, 1:]


class PlainGPT(nn.Module):
    """GPT-2 by hand, with the usual economies: no biases, tied head, SDPA, exact GELU. Ids [B, T] to logits [B, T, V]."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocab_size, size.width)
        self.positions = nn.Embedding(size.seq_len, size.width)
        self.blocks = nn.ModuleList(PlainBlock(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, bias=False)
        self.head = nn.Linear(size.width, size.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                scale = math.sqrt(2 * size.depth) if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(weight, std=0.02 / scale)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class PlainBlock(nn.Module):
    """Attention and feed-forward, each after a norm and added to what came in."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        d = size.width
        self.heads = d // size.head_size
        self.norm1, self.norm2 = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """From [B, T, d] to the same shape."""
        B, T, d = x.shape
        parts = self.qkv(self.norm1(x)).split(d, dim=2)
        q, k, v = (part.view(B, T, self.heads, d // self.heads).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))
