"""AdamW with the two learning rates of the recipe, and its state under the parameters' names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from testbed.records import RunSpec


class Learning(Protocol):
    """What learns: parameters under names."""

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Each once."""
        ...


def make_optimizer(network: nn.Module, hidden: set[str], spec: RunSpec) -> torch.optim.AdamW:
    """Hidden matrices learn at lr_hidden with weight decay; everything else at lr without."""
    named = dict(network.named_parameters())
    groups = [
        {
            "params": [p for n, p in named.items() if n in hidden],
            "peak": spec.lr_hidden,
            "weight_decay": spec.weight_decay,
        },
        {"params": [p for n, p in named.items() if n not in hidden], "peak": spec.lr, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.lr, betas=spec.betas, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's rate as this share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def moments(network: Learning, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors named after their parameters."""
    found = {}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state[parameter].items():
            found[f"{key}/{name}"] = value
    return found


def restore_moments(network: Learning, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The reverse of `moments`."""
    keys = ("step", "exp_avg", "exp_avg_sq")
    for name, parameter in network.named_parameters():
        state = {key: tensors[f"{key}/{name}"] for key in keys if f"{key}/{name}" in tensors}
        # the counter of a fused optimiser lies beside its parameter, as torch keeps it
        optimizer.state[parameter] = {key: value.to(parameter.device).clone() for key, value in state.items()}


def clip_gradients(parameters: Iterable[Tensor], largest: float | None) -> None:
    """Scale the gradients so that their joint norm is at most `largest`."""
    if largest is not None:
        torch.nn.utils.clip_grad_norm_(parameters, largest)
