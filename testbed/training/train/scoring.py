"""A network with its loss on windows of tokens; never holds more logits than a limit allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from testbed.errors import RunFailed
from testbed.records import DataFacts

LOGITS_BYTES = 1_000_000_000  # of the logits that are held at a time, with all that their losses and gradients need
BYTES_A_LOGIT = 16  # the product and its fp32 copy, its log-softmax, and the gradients of both
_FEW = 8  # tokens on which a network is compared with its head on its hidden states
_WHOLE = 128  # long chunks are a multiple of this, a size that matrix products are quick at


def token_losses(logits: Tensor, windows: Tensor, first_scored: int) -> Tensor:
    """Cross-entropies in nats [B * (T - first_scored)] of logits [B, T, V] for windows [B, T + 1]."""
    return _cross_entropies(logits[:, first_scored:].flatten(0, 1), windows[:, first_scored + 1 :].flatten())


def scored_tokens(windows: int, facts: DataFacts) -> int:
    """Tokens of so many windows that count in the loss."""
    return windows * (facts.seq_len - facts.first_scored)


def chunk_tokens(vocab_size: int, limit: int = LOGITS_BYTES) -> int:
    """Tokens whose logits take at most `limit` bytes, on the way forward and back."""
    most = max(1, limit // (BYTES_A_LOGIT * vocab_size))
    return most if most < _WHOLE else most - most % _WHOLE


class Scored(nn.Module):
    """Windows [B, T + 1] to the sum in nats (float64) of the cross-entropies of their scored tokens.

    Where all their logits would take more than `limit` bytes, the network's `hidden` states are given to
    its `head` in chunks (see models.family.Family.build); RunFailed for a network that has no such parts.
    """

    def __init__(self, network: nn.Module, facts: DataFacts, limit: int = LOGITS_BYTES) -> None:
        super().__init__()
        self.network, self._first = network, facts.first_scored
        self._chunk = chunk_tokens(facts.vocab_size, limit)
        self._vocab_size, self._seq_len = facts.vocab_size, facts.seq_len
        self._in_parts: bool | None = None

    def decide(self) -> None:
        """Find out now, in full precision, whether the network is its head on its hidden states.

        Before it is compiled: a forward that finds out in its first call is compiled again after it, and compares
        what a compiler has rounded in two ways.
        """
        device = next(self.network.parameters()).device
        self._in_parts = self._is_head_on_hidden(
            torch.arange(min(_FEW, self._seq_len), device=device)[None] % self._vocab_size
        )

    def forward(self, windows: Tensor) -> Tensor:
        """The sum over the scored tokens."""
        ids = windows[:, :-1]
        if ids.numel() <= self._chunk:
            return token_losses(self.network(ids), windows, self._first).double().sum()
        self._require_parts(ids)
        hidden = self.network.hidden(ids)[:, self._first :].flatten(0, 1)  # type: ignore[operator]  # [n, d]
        targets = windows[:, self._first + 1 :].flatten()
        head: nn.Module = self.network.head  # type: ignore[assignment]
        if not torch.is_grad_enabled():
            parts = zip(torch.split(hidden, self._chunk), torch.split(targets, self._chunk), strict=True)
            return torch.stack([_loss(head, part, aims) for part, aims in parts]).sum()
        total: Tensor = _InChunks.apply(head, targets, self._chunk, hidden, *head.parameters())  # type: ignore[no-untyped-call]
        return total

    def _require_parts(self, ids: Tensor) -> None:
        """Make sure, once and on a few tokens, that the network is its head on its hidden states."""
        if self._in_parts is None:
            self._in_parts = self._is_head_on_hidden(ids[:1, :_FEW])
        if not self._in_parts:
            raise RunFailed(
                f"model.family: the logits of {ids.numel()} tokens would take more than {LOGITS_BYTES / 1e9:g} GB, and "
                f"{type(self.network).__name__} cannot give them in chunks (its logits are more than a `head` on `hidden` "
                "states); lower train.micro_rows or data.seq_len"
            )

    @torch.no_grad()
    def _is_head_on_hidden(self, few: Tensor) -> bool:
        hidden: Callable[[Tensor], Tensor] | None = getattr(self.network, "hidden", None)
        head: nn.Module | None = getattr(self.network, "head", None)
        return hidden is not None and head is not None and torch.allclose(head(hidden(few)), self.network(few))


class _InChunks(torch.autograd.Function):
    """The sum of a head's cross-entropies, a chunk of the hidden states [n, d] at a time.

    A chunk's gradients are taken with its loss, so its logits are gone before the next ones are made,
    and no product is computed twice.
    """

    @staticmethod
    def forward(ctx: Any, head: nn.Module, targets: Tensor, chunk: int, hidden: Tensor, *weights: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        slopes = torch.empty_like(hidden)
        sums = [torch.zeros_like(weight) for weight in weights]
        for part, slope, aims in zip(
            torch.split(hidden, chunk), torch.split(slopes, chunk), torch.split(targets, chunk), strict=True
        ):
            with torch.enable_grad():
                given = part.detach().requires_grad_()
                loss = _loss(head, given, aims)
                found = torch.autograd.grad(loss, (given, *weights))
            total += loss.detach()
            slope.copy_(found[0])
            for summed, gradient in zip(sums, found[1:], strict=True):
                summed += gradient
        ctx.save_for_backward(slopes, *sums)
        return total

    @staticmethod
    def backward(ctx: Any, *factors: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *(saved * factors[0].to(saved.dtype) for saved in ctx.saved_tensors)


def _loss(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    return _cross_entropies(head(hidden), targets).double().sum()


def _cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """In fp32 at least, whatever the products were rounded to."""
    precise = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(precise, targets, reduction="none")
