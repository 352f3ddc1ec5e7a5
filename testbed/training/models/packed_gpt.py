"""K networks of the family `gpt` trained as one, with a hand-written backward pass.

Every parameter has a leading axis of K runs and every matrix product is batched over it, so small runs
of one shape share each call. The weights of run k are rows k of two flat buffers (hidden matrices, all
else), its gradients the same rows of two others. Compared with autograd this saves the graph, most
temporaries, and zeroing and accumulating gradients, which is most of a step at small widths. Equal to
`gpt.GPT` under autograd up to rounding.

Shapes: K runs, B windows, T positions, M = B T, d width, H heads of h = d / H, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from testbed.records import Shape
from testbed.training.models.attention import FusedAttention, ShortAttention
from testbed.training.models.gpt import GPTFamily

_EPSILON = 1e-5  # of the norms, torch's default
_SHORT = 128  # windows up to here: scores in full, batched; longer ones: torch's fused attention
_FEW_TOKENS = 1024  # vocabularies up to here: a GPU adds up the embedding's gradient by a product, not by sorting
_LOGITS = 1 << 20  # logits computed at a time in an evaluation, about
_aten = torch.ops.aten


class _Normed(NamedTuple):
    """Saved for the backward pass of norm and product: input, output without gain, mean, 1 / sd, weight with gain."""

    x: Tensor
    unit: Tensor
    mean: Tensor
    rstd: Tensor
    gained: Tensor


class _Layer(NamedTuple):
    """Saved for the backward pass of a block."""

    first: _Normed
    attention: Any
    mixed: Tensor
    second: _Normed
    up: Tensor
    active: Tensor


class PackedGPT:
    """K GPTs of one shape; parameters are rows of flat buffers, one for hidden matrices and one for all else."""

    def __init__(self, shape: Shape, init_seeds: tuple[int, ...], device: torch.device, bf16: bool = False) -> None:
        family = GPTFamily()
        networks = [family.build(shape, seed) for seed in init_seeds]
        hidden = family.hidden_matrices(networks[0])
        names = [name for name, _ in networks[0].named_parameters()]
        self.shape, self.runs = shape, len(networks)
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        self.p: dict[str, Tensor] = {}
        self.g: dict[str, Tensor] = {}
        self.hidden, hidden_gradients = self._allocate(networks, [n for n in names if n in hidden], device)
        self.other, other_gradients = self._allocate(networks, [n for n in names if n not in hidden], device)
        self.gradients = (hidden_gradients, other_gradients)
        self._rows = [
            nn.Parameter(weights[run], requires_grad=False)  # the same memory
            for weights in (self.hidden, self.other)
            for run in range(self.runs)
        ]
        for row, gradient in zip(self._rows, (*hidden_gradients, *other_gradients), strict=True):
            row.grad = gradient
        short = device.type == "cpu" and shape.seq_len <= _SHORT and not bf16
        self._attend = ShortAttention(shape, device) if short else FusedAttention(shape, device)
        # the embedding's rows within the buffer of all else, whose row length is a multiple of d
        rows = self.other.shape[1] // shape.width
        self._table, self._table_gradient = (b.view(-1, shape.width) for b in (self.other, other_gradients))
        self._first_row = (torch.arange(self.runs, device=device) * rows)[:, None]
        assert names[0] == "embed.weight"

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The flat rows [P] of the runs with their gradients: hidden.0, hidden.1, ..., other.0, ..."""
        names = [f"{kind}.{run}" for kind in ("hidden", "other") for run in range(self.runs)]
        return list(zip(names, self._rows, strict=True))

    def weights(self, run: int) -> dict[str, Tensor]:
        """The weights of one run under the names of `gpt.GPT`."""
        return {name: weight[run] for name, weight in self.p.items()}

    def learn(self, windows: Tensor, first_scored: int) -> Tensor:
        """Mean losses [K] in nats/token of windows [K, B, T + 1]; fills `gradients`, whatever they held."""
        ids = self._ids(windows)
        x, tape = self._forward(ids)
        logits, last = self._normed_product(x, "norm.weight", "head.weight")  # [K, M, V]
        losses, dlogits = _cross_entropy(logits, windows, first_scored)
        dx = self._normed_product_back(dlogits.to(self._dtype), last, "norm.weight", "head.weight", None)
        for layer in reversed(range(self.shape.depth)):
            dx = self._block_back(dx, tape.pop(), f"blocks.{layer}.")
        if ids.is_cuda and self.shape.vocab_size <= _FEW_TOKENS:
            torch.bmm(_places(windows[:, :, :-1].flatten(1), self.shape.vocab_size), dx, out=self.g["embed.weight"])
        else:
            self.g["embed.weight"].zero_()
            self._table_gradient.index_add_(0, ids.flatten(), dx.flatten(0, 1))
        return losses

    def losses(self, windows: Tensor, first_scored: int) -> Tensor:
        """Mean losses [K] in nats/token of each run on the same windows [n, T + 1], summed in float64."""
        rows = max(1, _LOGITS // (self.runs * self.shape.seq_len * self.shape.vocab_size))
        total = torch.zeros(self.runs, dtype=torch.float64, device=windows.device)
        for part in torch.split(windows, rows):
            each = part.expand(self.runs, -1, -1)
            x, _ = self._forward(self._ids(each), keep=False)
            logits, _ = self._normed_product(x, "norm.weight", "head.weight")
            scored = logits.view(*each.shape[:2], -1, self.shape.vocab_size)[:, :, first_scored:].float()
            targets = each[:, :, first_scored + 1 :]
            per_token = F.cross_entropy(scored.flatten(0, 2), targets.flatten(), reduction="none")
            total += per_token.double().view(self.runs, -1).sum(1)
        return total / (len(windows) * (windows.shape[1] - 1 - first_scored))

    def _allocate(self, networks: list[Any], names: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Flat weights and gradients [K, P] of the named parameters, and views of them in `p` and `g`."""
        drawn = [dict(network.named_parameters()) for network in networks]
        weights = torch.stack([torch.cat([p[n].detach().flatten() for n in names]) for p in drawn]).to(device)
        gradients = torch.zeros_like(weights)
        start = 0
        for name in names:
            form = drawn[0][name].shape
            end = start + form.numel()
            self.p[name] = weights[:, start:end].view(len(networks), *form)
            self.g[name] = gradients[:, start:end].view(len(networks), *form)
            start = end
        return weights, gradients

    def _ids(self, windows: Tensor) -> Tensor:
        return windows[:, :, :-1].flatten(1) + self._first_row  # [K, M], rows of the table

    def _forward(self, ids: Tensor, keep: bool = True) -> tuple[Tensor, list[_Layer]]:
        """The last block's output [K, M, d] and, where kept, what the backward pass needs."""
        x = F.embedding(ids, self._table)
        tape = []
        for layer in range(self.shape.depth):
            x, kept = self._block(x, f"blocks.{layer}.")
            if keep:
                tape.append(kept)
        return x, tape

    def _block(self, x: Tensor, name: str) -> tuple[Tensor, _Layer]:
        qkv, first = self._normed_product(x, name + "norm1.weight", name + "attend.qkv.weight", transposed=True)
        mixed, attention = self._attend.forward(qkv)
        x = self._add_product(x, mixed.transpose(1, 2), name + "attend.out.weight")
        up, second = self._normed_product(x, name + "norm2.weight", name + "up.weight")
        active = F.gelu(up)
        x = self._add_product(x, active, name + "down.weight")
        return x, _Layer(first, attention, mixed, second, up, active)

    def _block_back(self, dx: Tensor, kept: _Layer, name: str) -> Tensor:
        dy = dx.to(self._dtype)
        self._gradient(name + "down.weight", dy.transpose(1, 2), kept.active)
        dup = _aten.gelu_backward(torch.bmm(dy, self._cast(name + "down.weight")), kept.up)
        dx = self._normed_product_back(dup, kept.second, name + "norm2.weight", name + "up.weight", dx)
        dy = dx.to(self._dtype)
        self._gradient(name + "attend.out.weight", dy.transpose(1, 2), kept.mixed.transpose(1, 2))
        dmixed = torch.bmm(self._cast(name + "attend.out.weight").transpose(1, 2), dy.transpose(1, 2))  # [K, d, M]
        dqkv = self._attend.backward(dmixed, kept.attention)
        return self._normed_product_back(
            dqkv.transpose(1, 2), kept.first, name + "norm1.weight", name + "attend.qkv.weight", dx
        )

    def _cast(self, name: str) -> Tensor:
        return self.p[name].to(self._dtype)

    def _gradient(self, name: str, a: Tensor, b: Tensor) -> None:
        """Write the batched product of a and b as the gradient of `name`."""
        if self._dtype == torch.float32:
            torch.bmm(a, b, out=self.g[name])
        else:
            self.g[name].copy_(torch.bmm(a, b))

    def _add_product(self, x: Tensor, a: Tensor, name: str) -> Tensor:
        weight = self._cast(name).transpose(1, 2)
        return torch.baddbmm(x, a, weight) if self._dtype == torch.float32 else x + torch.bmm(a, weight)

    def _normed_product(self, x: Tensor, gain: str, name: str, transposed: bool = False) -> tuple[Tensor, _Normed]:
        """Product of the normed x [K, M, d] with weight [K, n, d]: [K, M, n], or [K, n, M] where `transposed`.

        The norm's gain is multiplied into the weight, which is smaller than the activations.
        """
        unit, mean, rstd = torch.native_layer_norm(x, [x.shape[-1]], None, None, _EPSILON)
        gained = (self.p[name] * self.p[gain][:, None]).to(self._dtype)
        unit = unit.to(self._dtype)
        product = torch.bmm(gained, unit.transpose(1, 2)) if transposed else torch.bmm(unit, gained.transpose(1, 2))
        return product, _Normed(x, unit, mean, rstd, gained)

    def _normed_product_back(self, dy: Tensor, kept: _Normed, gain: str, name: str, dx: Tensor | None) -> Tensor:
        """The gradient of x, added to `dx` in place; those of weight and gain are written."""
        product = torch.bmm(dy.transpose(1, 2), kept.unit).float()
        torch.mul(product, self.p[gain][:, None], out=self.g[name])
        torch.sum(product.mul_(self.p[name]), 1, out=self.g[gain])
        dunit = torch.bmm(dy, kept.gained).float()
        found: Tensor = _aten.native_layer_norm_backward(
            dunit, kept.x, [kept.x.shape[-1]], kept.mean, kept.rstd, None, None, [True, False, False]
        )[0]
        return found if dx is None else found.add_(dx)


def _cross_entropy(logits: Tensor, windows: Tensor, first_scored: int) -> tuple[Tensor, Tensor]:
    """Mean losses [K] of logits [K, M, V] for windows [K, B, T + 1], and the gradient of their sum [K, M, V].

    A token's loss is at most 87 nats, that of the smallest probability in fp32; its gradient is exact.
    """
    K, B, length = windows.shape
    scored = logits.view(K, B, length - 1, -1)[:, :, first_scored:].float()
    targets = windows[:, :, first_scored + 1 :, None]
    p = torch.softmax(scored, -1)
    of_target = p.gather(-1, targets)
    losses = of_target.clamp_min(torch.finfo(p.dtype).tiny).log_().view(K, -1).mean(1).neg_()
    if p.is_cuda:  # where scattering is repeatable it sorts; this is one pass
        p.sub_((targets == torch.arange(p.shape[-1], device=p.device)).float())
    else:
        p.scatter_(-1, targets, of_target - 1)
    p.mul_(K / targets.numel())
    if first_scored:
        p = F.pad(p, (0, 0, first_scored, 0))
    return losses, p.view_as(logits)


def _places(ids: Tensor, vocab_size: int) -> Tensor:
    """1 where a token stands, else 0: [..., V, n] of ids [..., n]."""
    return (ids[..., None, :] == torch.arange(vocab_size, device=ids.device)[:, None]).float()
