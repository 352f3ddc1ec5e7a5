"""The family `gpt`: a plain decoder with rotary positions, pre-norm, no biases and an untied head.

Shapes: B windows, T positions, d width, H heads of h = d / H, V vocabulary. The same network as
transformers' GPT-NeoX with sequential residuals, full rotary width, exact GELU and zero biases.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from testbed.config import Model
from testbed.records import Counts, Shape
from testbed.training.models.family import depth_of


class GPTFamily:
    """The family `gpt`: depth follows from the width d by rule, with d / head_size heads and a feed-forward of 4 d."""

    def shape(self, width: int, rule: Model, vocab_size: int, seq_len: int) -> Shape:
        """The rung of this width; the configuration has checked that head_size divides it."""
        return Shape(
            family="gpt",
            width=width,
            depth=depth_of(width, rule),
            heads=width // rule.head_size,
            head_size=rule.head_size,
            vocab_size=vocab_size,
            seq_len=seq_len,
        )

    def counts(self, shape: Shape) -> Counts:
        """Per layer 12 d^2 weights and 2 d gains; a final d; embedding and head V d each."""
        d, depth = shape.width, shape.depth
        matrices = 12 * d * d * depth
        hidden = matrices + (2 * depth + 1) * d
        products = matrices + shape.vocab_size * d  # multiply-adds a token in weight matrices
        attention = 2 * shape.seq_len * d * depth  # and in scores and their weighted sum, over all T positions
        return Counts(
            n_params_non_embedding=hidden,
            n_params_total=hidden + 2 * shape.vocab_size * d,
            flops_per_token=3 * 2 * (products + attention),
        )

    def build(self, shape: Shape, init_seed: int) -> GPT:
        """The network with fresh weights; the global random generator is left unchanged."""
        with torch.random.fork_rng():
            return GPT(shape, init_seed)

    def hidden_matrices(self, network: nn.Module) -> set[str]:
        """The four matrices of each block."""
        return {name for name, weight in network.named_parameters() if name.startswith("blocks.") and weight.dim() == 2}


class GPT(nn.Module):
    """Ids [B, T] to logits [B, T, V]."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape, init_seed: int) -> None:
        super().__init__()
        d = shape.width
        self.embed = nn.Embedding(shape.vocab_size, d)
        self.blocks = nn.ModuleList(Block(d, shape.head_size) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(d, bias=False)
        self.head = nn.Linear(d, shape.vocab_size, bias=False)
        cos, sin = rotary(shape.seq_len, shape.head_size)
        self.register_buffer("cos", cos, persistent=False)  # [T, h]
        self.register_buffer("sin", sin, persistent=False)
        self._draw(shape, init_seed)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, T, V] of ids [B, T]."""
        logits: Tensor = self.head(self.hidden(ids))
        return logits

    def hidden(self, ids: Tensor) -> Tensor:
        """States [B, T, d] that the head maps to logits."""
        x = self.embed(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, cos, sin)
        states: Tensor = self.norm(x)
        return states

    @torch.no_grad()
    def _draw(self, shape: Shape, init_seed: int) -> None:
        """Normal weights: 0.02 for the embedding, 0.5 / sqrt(fan-in) elsewhere, outputs of blocks / sqrt(2 L)."""
        generator = torch.Generator().manual_seed(init_seed)
        for name, weight in self.named_parameters():
            if weight.dim() == 1:
                continue  # gains of norms stay 1
            std = 0.02 if name.startswith("embed") else 0.5 / math.sqrt(weight.shape[1])
            if name.endswith(("attend.out.weight", "down.weight")):
                std /= math.sqrt(2 * shape.depth)
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, d: int, head_size: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d, bias=False)
        self.attend = Attention(d, head_size)
        self.norm2 = nn.LayerNorm(d, bias=False)
        self.up = nn.Linear(d, 4 * d, bias=False)
        self.down = nn.Linear(4 * d, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """From x [B, T, d] to the same shape."""
        x = x + self.attend(self.norm1(x), cos, sin)
        update: Tensor = self.down(F.gelu(self.up(self.norm2(x))))
        return x + update


class Attention(nn.Module):
    """Causal self-attention over the window."""

    def __init__(self, d: int, head_size: int) -> None:
        super().__init__()
        self.head_size = head_size
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The update of x [B, T, d]."""
        B, T, d = x.shape
        qkv = self.qkv(x).view(B, T, 3, d // self.head_size, self.head_size).permute(2, 0, 3, 1, 4)  # [3, B, H, T, h]
        q, k = rotate(qkv[:2], cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, qkv[2], is_causal=True)  # [B, H, T, h]
        update: Tensor = self.out(mixed.transpose(1, 2).reshape(B, T, d))
        return update


def rotary(seq_len: int, head_size: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines [T, h] of rotary positions, halves paired (arXiv:2104.09864, eq. 34).

    The base is 2 T: the slowest pair turns less than once in a window but still turns. With the usual 10,000,
    half of the pairs of a small head hardly turn in a short window.
    """
    speeds = (2.0 * seq_len) ** -(torch.arange(0, head_size, 2) / head_size)
    angles = torch.outer(torch.arange(seq_len), speeds)  # [T, h / 2]
    return torch.cat((angles.cos(), angles.cos()), -1), torch.cat((-angles.sin(), angles.sin()), -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + h / 2) of the last axis of x [..., T, h] by their positions' angles."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((second, first), -1) * sin
