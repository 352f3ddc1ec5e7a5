"""A run's state in one safetensors file: weights, moments, generators, and the cursor in its JSON header.

Written whole or not at all; nothing is unpickled when it is read.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from testbed.errors import FolderError
from testbed.files import replacing
from testbed.train.optimizer import moments, restore_moments


@dataclass
class Cursor:
    """Where a run stands; counted while it trains, never taken from the plan.

    `horizon` is the number of finished branches, `in_branch` says whether the path is a branch or the
    trunk, `step` and `tokens` are what this path has seen from its start, `spent_*` what all paths
    have. `loss_sum` and `loss_count` run since the path's last evaluation.
    """

    run_id: str
    horizon: int = 0
    in_branch: bool = False
    step: int = 0
    tokens: int = 0
    spent_steps: int = 0
    spent_tokens: int = 0
    spent_seconds: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0


def save_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, cursor: Cursor) -> None:
    """Write the state to `path` in one step."""
    tensors = {f"weight/{name}": p.detach() for name, p in network.named_parameters()}
    tensors |= moments(network, optimizer)
    tensors |= {f"generator/{name}": state for name, state in _generators().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"cursor": json.dumps(asdict(cursor))})


def read_cursor(path: Path, run_id: str) -> Cursor | None:
    """The cursor of the checkpoint at `path`; None where there is none."""
    if not path.exists():
        return None
    with _opened(path) as file:
        cursor = Cursor(**json.loads((file.metadata() or {}).get("cursor", "{}") or "{}"))
    if cursor.run_id != run_id:
        raise FolderError(
            f"{path}: a checkpoint of run {cursor.run_id}, not of {run_id}; delete it to start the run anew"
        )
    return cursor


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the state at `path` back into `network`, `optimizer` and the generators."""
    with _opened(path) as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(tensors[f"weight/{name}"])
    restore_moments(network, optimizer, tensors)
    _restore_generators(tensors)


def save_weights(path: Path, network: nn.Module, metadata: dict[str, str]) -> None:
    """The weights alone, with a few facts in the header."""
    with replacing(path) as temporary:
        save_file({name: p.detach() for name, p in network.named_parameters()}, temporary, metadata=metadata)


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise FolderError(f"{path}: not a readable checkpoint ({error}); delete it to start the run anew") from None


def _generators() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_generators(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["generator/cpu"])
    if torch.cuda.is_available() and "generator/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["generator/cuda"])
