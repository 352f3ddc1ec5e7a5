"""The state of runs that are trained together in one safetensors file, with the cursor in its JSON header.

Written whole or not at all; nothing is unpickled when it is read.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from testbed.errors import FolderError
from testbed.files import replacing


@dataclass
class Cursor:
    """Where the runs of a pack stand; counted while they train, never taken from the plan.

    `run_ids` are the pack's runs, joined by spaces. `horizon` is the number of finished branches,
    `in_branch` says whether the path is a branch or the trunk, `step` and `tokens` are what each model
    on this path has seen from its start, `spent_*` what all paths have, of one run. `loss_count` are
    the steps since the path's last evaluation.
    """

    run_ids: str
    horizon: int = 0
    in_branch: bool = False
    step: int = 0
    tokens: int = 0
    spent_steps: int = 0
    spent_tokens: int = 0
    spent_seconds: float = 0.0
    loss_count: int = 0


def save_checkpoint(path: Path, tensors: dict[str, Tensor], cursor: Cursor) -> None:
    """Write the state to `path` in one step, with the generators' states."""
    tensors = tensors | {f"generator/{name}": state for name, state in _generators().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"cursor": json.dumps(asdict(cursor))})


def read_cursor(path: Path, run_ids: str) -> Cursor | None:
    """The cursor of the checkpoint at `path`; None where there is none."""
    if not path.exists():
        return None
    with _opened(path) as file:
        cursor = Cursor(**json.loads((file.metadata() or {}).get("cursor", "{}") or "{}"))
    if cursor.run_ids != run_ids:
        raise FolderError(
            f"{path}: a checkpoint of {cursor.run_ids}, not of {run_ids}; delete it to start these runs anew"
        )
    return cursor


def load_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state at `path`; the generators are put back as they were."""
    with _opened(path) as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _restore_generators(tensors)
    return tensors


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """The weights alone, with a few facts in the header."""
    with replacing(path) as temporary:
        save_file({name: w.contiguous() for name, w in weights.items()}, temporary, metadata=metadata)


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
