"""Causal attention of packed networks, forward and backward, in two ways.

Both map queries, keys and values [K, 3 d, M] (features first: products with few columns are slow) to
the mixed values [K, d, M], and keep what their backward pass needs. Positions are rotary.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from testbed.records import Shape
from testbed.training.models.gpt import rotary

_BLOCK = 32  # queries of a block; without blocks half of the scores are computed to be masked
_aten = torch.ops.aten


class _Heads:
    """From [K, 3 d, M] to heads [3, K, B, H, h, T] with rotary positions, and back."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self._cos, self._sin = (table.to(device).T.contiguous() for table in rotary(shape.seq_len, shape.head_size))
        self._sin_back = -self._sin
        self._heads, self._seq_len = shape.heads, shape.seq_len

    def split(self, qkv: Tensor) -> Tensor:
        """Contiguous heads, queries and keys rotated."""
        source = self._view(qkv, 3)
        heads = torch.empty(source.shape, dtype=qkv.dtype, device=qkv.device)
        self._rotate(source[:2], self._sin, heads[:2])
        heads[2] = source[2]
        return heads

    def join(self, dheads: Tensor) -> Tensor:
        """Gradients of the heads [3, K, B, H, h, T] back to [K, 3 d, M]."""
        _, K, B, H, h, T = dheads.shape
        dqkv = torch.empty(K, 3 * H * h, B * T, dtype=dheads.dtype, device=dheads.device)
        target = self._view(dqkv, 3)
        self._rotate(dheads[:2], self._sin_back, target[:2])
        target[2] = dheads[2]
        return dqkv

    def split_mixed(self, dmixed: Tensor) -> Tensor:
        """[K, d, M] to contiguous heads [K B H, h, T]."""
        heads = self._view(dmixed, 1)[0]
        return heads.reshape(-1, *heads.shape[-2:])

    def join_mixed(self, mixed: Tensor, like: Tensor) -> Tensor:
        """Heads [K B H, h, T] to [K, d, M], for qkv `like` this."""
        K, d3, M = like.shape
        heads = mixed.view(K, -1, self._heads, *mixed.shape[-2:])
        return heads.permute(0, 2, 3, 1, 4).reshape(K, d3 // 3, M)

    def _view(self, x: Tensor, parts: int) -> Tensor:
        """[K, parts d, M] as [parts, K, B, H, h, T], no copy."""
        split = x.view(x.shape[0], parts, self._heads, -1, x.shape[2] // self._seq_len, self._seq_len)
        return split.permute(1, 0, 4, 2, 3, 5)

    def _rotate(self, x: Tensor, sin: Tensor, out: Tensor) -> None:
        """Turn the pairs (i, i + h / 2) of x [..., h, T] by their positions' angles into `out`."""
        half = x.shape[-2] // 2
        first, second = slice(None, half), slice(half, None)
        torch.mul(x, self._cos, out=out)
        out[..., first, :].addcmul_(x[..., second, :], sin[first])
        out[..., second, :].addcmul_(x[..., first, :], sin[second])


class _Kept(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor
    shares: list[Tensor]  # attention's weights by blocks of queries [K B H, block, end of the block]


class ShortAttention:
    """Scores by blocks of queries against all keys up to the block's end: the fastest on a CPU while a window is short."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self._heads = _Heads(shape, device)
        self._scale = shape.head_size**-0.5
        self._mask = torch.full((shape.seq_len, shape.seq_len), -math.inf, device=device).triu(1)
        length = shape.seq_len
        self._blocks = [slice(start, min(start + _BLOCK, length)) for start in range(0, length, _BLOCK)]

    def forward(self, qkv: Tensor) -> tuple[Tensor, _Kept]:
        """Mixed values [K, d, M] of qkv [K, 3 d, M]."""
        q, k, v = self._heads.split(qkv).flatten(1, 3)  # [K B H, h, T] each
        shares, mixed = [], []
        for block in self._blocks:
            mask, keys, values = self._mask[block, : block.stop], k[:, :, : block.stop], v[:, :, : block.stop]
            scores = torch.baddbmm(mask, q[:, :, block].transpose(1, 2), keys, alpha=self._scale)
            shares.append(torch.softmax(scores, -1, out=scores))  # in place, here and below: fresh memory is slow
            mixed.append(torch.bmm(values, scores.transpose(1, 2)))
        return self._heads.join_mixed(torch.cat(mixed, 2), qkv), _Kept(q, k, v, shares)

    def backward(self, dmixed: Tensor, kept: _Kept) -> Tensor:
        """The gradient [K, 3 d, M] of qkv from that of the mixed values [K, d, M]."""
        q, k, v, shares = kept
        dout = self._heads.split_mixed(dmixed)
        dheads = torch.empty(3, *q.shape, dtype=q.dtype, device=q.device)
        for block, share in zip(reversed(self._blocks), reversed(shares), strict=True):
            self._block_back(dheads, dout[:, :, block], (q[:, :, block], k, v), share, block)
        K, d, M = dmixed.shape
        B, H = M // q.shape[2], d // q.shape[1]
        return self._heads.join(dheads.view(3, K, B, H, *q.shape[1:]))

    def _block_back(
        self, dheads: Tensor, dout: Tensor, heads: tuple[Tensor, Tensor, Tensor], share: Tensor, block: slice
    ) -> None:
        """The part of one block of queries; the last block, which comes first, covers all keys and writes, the others add."""
        (dq, dk, dv), (q, k, v), end = dheads, heads, block.stop
        dscores = torch.bmm(dout.transpose(1, 2), v[:, :, :end])
        _aten._softmax_backward_data.out(dscores, share, -1, share.dtype, grad_input=dscores)
        torch.mul(torch.bmm(k[:, :, :end], dscores.transpose(1, 2)), self._scale, out=dq[:, :, block])
        if end == dk.shape[2]:
            torch.bmm(dout, share, out=dv)
            torch.baddbmm(dk, q, dscores, beta=0, alpha=self._scale, out=dk)
        else:
            dv[:, :, :end].add_(torch.bmm(dout, share))
            dk[:, :, :end].add_(torch.bmm(q, dscores), alpha=self._scale)


class FusedAttention:
    """torch's fused attention, differentiated by autograd: for long windows, and on a GPU."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self._heads = _Heads(shape, device)

    def forward(self, qkv: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Mixed values [K, d, M] of qkv [K, 3 d, M]."""
        heads = self._heads.split(qkv).flatten(1, 2).transpose(-1, -2).contiguous()  # [3, K B, H, T, h]
        with torch.enable_grad():
            q, k, v = (part.requires_grad_() for part in heads.unbind())
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self._heads.join_mixed(_flat(mixed.detach()), qkv), (q, k, v, mixed)

    def backward(self, dmixed: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """The gradient [K, 3 d, M] of qkv from that of the mixed values [K, d, M]."""
        *inputs, mixed = kept
        dout = self._heads.split_mixed(dmixed).transpose(-1, -2).reshape(mixed.shape)
        dheads = torch.stack(torch.autograd.grad(mixed, inputs, dout)).transpose(-1, -2)  # [3, K B, H, h, T]
        runs, (parts, windows, *rest) = dmixed.shape[0], dheads.shape
        return self._heads.join(dheads.reshape(parts, runs, windows // runs, *rest))


def _flat(heads: Tensor) -> Tensor:
    """[K B, H, T, h] as contiguous [K B H, h, T]."""
    return heads.transpose(-1, -2).flatten(0, 1).contiguous()
