"""Runs of one shape side by side: the packed network with torch's fused AdamW and a clip for each run."""

from __future__ import annotations

import torch
from torch import Tensor

from testbed.records import RunSpec
from testbed.training.data import TokenSource
from testbed.training.models.packed_gpt import PackedGPT
from testbed.training.train.feed import make_feed
from testbed.training.train.halving import Halving
from testbed.training.train.memory.shortage import no_room, with_room
from testbed.training.train.optimizer import adamw, moments, restore_moments, set_rates, start_anew


class PackedLearner(Halving):
    """A learner of K runs of the family `gpt`; see `learner.Learner`."""

    def __init__(self, specs: tuple[RunSpec, ...], source: TokenSource, device: torch.device) -> None:
        spec = specs[0]
        super().__init__(spec, device, unit="windows of each run")
        self.network = PackedGPT(spec.shape, tuple(s.init_seed for s in specs), device, bf16=spec.precision == "bf16")
        self.optimizer = _optimizer(self.network, specs)
        self._feed = make_feed(specs, source, device)
        self._validation = torch.as_tensor(source.validation()).to(device, torch.long)
        self._loss_sum = torch.zeros(len(specs), dtype=torch.float64, device=device)

    @torch.no_grad()
    def restart(self, specs: tuple[RunSpec, ...]) -> None:
        """Other runs of the same shape from their start."""
        self._spec = spec = specs[0]
        fresh = PackedGPT(spec.shape, tuple(s.init_seed for s in specs), torch.device("cpu"))
        for (_, row), (_, drawn) in zip(self.network.named_parameters(), fresh.named_parameters(), strict=True):
            row.copy_(drawn)
        start_anew(self.optimizer, (peak for peak, _ in _groups(self.network, specs)))
        self._feed.restart(specs)
        self._loss_sum.zero_()

    def optimise(self, step: int, factor: float) -> None:
        """One optimiser step of every run."""

        def prepare() -> None:
            self._feed.seek(step)
            set_rates(self.optimizer, factor)

        self._do(prepare, self._step, self.state)

    @torch.no_grad()
    def _step(self) -> None:
        """The device's part of a step, with the same operations at every step."""
        losses = self._learn(self._feed.windows())
        self._clip()
        with self._updating():
            self._loss_sum += losses
            self.optimizer.step()

    def _learn(self, windows: Tensor) -> Tensor:
        """Mean losses [K] of windows [K, B, T + 1] and their gradients, in passes of at most `rows` windows."""
        first, gradients = self._spec.data.first_scored, self.network.gradients
        if self.rows is None:
            return self.network.learn(windows, first)
        losses, sums = torch.zeros_like(self._loss_sum), [torch.zeros_like(g) for g in gradients]
        for part in torch.split(windows, self.rows, 1):
            share = part.shape[1] / windows.shape[1]  # every window has as many scored tokens
            losses += share * self.network.learn(part, first)
            for total, gradient in zip(sums, gradients, strict=True):
                total.add_(gradient, alpha=share)
        for total, gradient in zip(sums, gradients, strict=True):
            gradient.copy_(total)
        return losses

    def loss_sums(self) -> list[float]:
        """The sums of the training losses [K] in nats/token since `clear_losses`."""
        return self._loss_sum.tolist()

    def clear_losses(self) -> None:
        """Set the sums to 0."""
        self._loss_sum.zero_()

    @torch.no_grad()
    def validate(self) -> list[float]:
        """The losses [K] in nats/token on the frozen windows."""

        def fail(asked: str) -> None:
            raise no_room("an evaluation", asked, self._spec, self._device)

        return with_room(lambda: self.network.losses(self._validation, self._spec.data.first_scored).tolist(), fail)

    def state(self) -> dict[str, Tensor]:
        """Weights, moments and the sums of losses."""
        weights = {f"weight/{name}": row.detach() for name, row in self.network.named_parameters()}
        return weights | moments(self.network, self.optimizer) | {"loss_sum": self._loss_sum}

    def layout(self) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shape and type of each tensor of `state`."""
        return {name: (tensor.shape, tensor.dtype) for name, tensor in self.state().items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state that `state` gave."""
        with torch.no_grad():
            for name, row in self.network.named_parameters():
                row.copy_(tensors[f"weight/{name}"])
        restore_moments(self.network, self.optimizer, tensors)
        self._loss_sum.copy_(tensors["loss_sum"])

    def weights(self, run: int) -> dict[str, Tensor]:
        """The weights of one run under the names of the family's network."""
        return self.network.weights(run)

    def _clip(self) -> None:
        """Scale each run's gradients so that their joint norm is at most `clip`."""
        if self._spec.clip is None:
            return
        squares = torch.stack([g.square().sum(1) for g in self.network.gradients])
        scale = (self._spec.clip / (squares.sum(0).sqrt() + 1e-6)).clamp_max(1.0)  # as torch's clip_grad_norm_
        for gradient in self.network.gradients:
            gradient.mul_(scale[:, None])


def _optimizer(network: PackedGPT, specs: tuple[RunSpec, ...]) -> torch.optim.AdamW:
    groups = _groups(network, specs).items()
    return adamw([{"params": rows, "peak": peak, "weight_decay": decay} for (peak, decay), rows in groups], specs[0])


def _groups(network: PackedGPT, specs: tuple[RunSpec, ...]) -> dict[tuple[float, float], list[torch.nn.Parameter]]:
    """Parameters by (peak rate, weight decay): hidden matrices at their run's lr_hidden with decay, all else at its lr."""
    rates = {f"hidden.{k}": (s.lr_hidden, s.weight_decay) for k, s in enumerate(specs)}
    rates |= {f"other.{k}": (s.lr, 0.0) for k, s in enumerate(specs)}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, row in network.named_parameters():
        groups.setdefault(rates[name], []).append(row)
    return groups
