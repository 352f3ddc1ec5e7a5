"""One run, trained through its family's own module: any architecture, autograd, torch's fused AdamW."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from testbed.data import TokenSource
from testbed.models import find_family
from testbed.records import RunSpec
from testbed.train.evaluation import token_losses, validation_loss
from testbed.train.feed import Feed
from testbed.train.optimizer import clip_gradients, make_optimizer, moments, restore_moments, set_rates


class ModuleLearner:
    """A learner of one run (K = 1); see `learner.Learner`."""

    def __init__(self, spec: RunSpec, source: TokenSource, device: torch.device) -> None:
        family = find_family(spec.shape.family)
        self._spec, self._device = spec, device
        self.network = family.build(spec.shape, spec.init_seed).to(device)
        self.optimizer = make_optimizer(self.network, family.hidden_matrices(self.network), spec)
        self._feed = Feed((spec,), source, device)
        self._validation = torch.as_tensor(source.validation()).to(device, torch.long)
        self._loss_sum = torch.zeros(1, dtype=torch.float64, device=device)

    def optimise(self, step: int, factor: float) -> None:
        """One optimiser step."""
        spec = self._spec
        windows = self._feed(step)[0]
        set_rates(self.optimizer, factor)
        bf16 = spec.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16) if bf16 else nullcontext():
            logits = self.network(windows[:, :-1])
        loss = token_losses(logits, windows, spec.data.first_scored).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(self.network.parameters(), spec.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._loss_sum += loss.detach()

    def loss_sums(self) -> list[float]:
        """The sum since `clear_losses`."""
        return [float(self._loss_sum)]

    def clear_losses(self) -> None:
        """Start the sum anew."""
        self._loss_sum.zero_()

    def validate(self) -> list[float]:
        """The loss on the frozen windows."""
        return [validation_loss(self.network, self._validation, self._spec.data, self._spec.precision == "bf16")]

    def state(self) -> dict[str, Tensor]:
        """Weights, moments and the sum of losses."""
        tensors = {f"weight/{name}": p.detach() for name, p in self.network.named_parameters()}
        return tensors | moments(self.network, self.optimizer) | {"loss_sum": self._loss_sum}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state."""
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(tensors[f"weight/{name}"])
        restore_moments(self.network, self.optimizer, tensors)
        self._loss_sum.copy_(tensors["loss_sum"])

    def weights(self, run: int) -> dict[str, Tensor]:
        """The network's parameters."""
        return {name: p.detach() for name, p in self.network.named_parameters()}
