"""AdamW with the two learning rates of the recipe, and its state under the parameters' names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from testbed.records import RunSpec


class Learning(Protocol):
    """Anything with named parameters: a network or a pack of networks."""

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Names and parameters, each parameter once."""
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
    return adamw(groups, spec)


def adamw(groups: list[dict[str, Any]], spec: RunSpec) -> torch.optim.AdamW:
    """The fused AdamW of torch with its whole state allocated now instead of at the first step.

    On CUDA its rates and counters are tensors on the device, so a step can be captured in a graph. The rate
    of a group is a share of its "peak" (see set_rates).
    """
    device = next(parameter.device for group in groups for parameter in group["params"])
    on_gpu = device.type == "cuda"
    optimizer = torch.optim.AdamW(groups, lr=spec.lr, betas=spec.betas, fused=True, capturable=on_gpu)
    for group in optimizer.param_groups:
        if on_gpu:
            group["lr"] = torch.zeros((), device=device)
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
    return optimizer


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to this share of its peak; on CUDA with two kernel launches for any number of groups."""
    groups = optimizer.param_groups
    rates = [group["peak"] * factor for group in groups]
    if isinstance(groups[0]["lr"], Tensor):
        there = [group["lr"] for group in groups]
        torch._foreach_zero_(there)
        torch._foreach_add_(there, rates)
        return
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate


def start_anew(optimizer: torch.optim.Optimizer, peaks: Iterable[float]) -> None:
    """Reset the optimiser to step 0, with other peak rates of its groups in their order."""
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["peak"] = peak
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()


def moments(network: Learning, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors named after their parameters."""
    found = {}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state[parameter].items():
            found[f"{key}/{name}"] = value
    return found


def restore_moments(network: Learning, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The reverse of `moments`, in place."""
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state[parameter].items():
            value.copy_(tensors[f"{key}/{name}"])


def clip_gradients(parameters: Iterable[Tensor], largest: float | None) -> None:
    """Scale the gradients so that their joint norm is at most `largest`."""
    if largest is not None:
        torch.nn.utils.clip_grad_norm_(parameters, largest)
