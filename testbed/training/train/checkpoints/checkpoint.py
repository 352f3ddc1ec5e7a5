"""The state of runs that are trained together in one safetensors file, with cursor and digest in its JSON header.

Written whole or not at all, and read whole or not at all: what was damaged on disk, or belongs to other
runs, is told from what was written by its digest. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from testbed.errors import FolderError
from testbed.files import canonical_json, keep, not_writable, replacing
from testbed.training.train.divergence import Looks

_HEADER = "testbed"
_THREADS = 8  # that digests are taken in, at most: one reads memory no faster than a disk writes
_ONE_THREAD = 1 << 24  # bytes of a state up to which a second thread is not worth its start


class Unsound(Exception):
    """A checkpoint that cannot be gone on from; the message says what is wrong with it."""


@dataclass
class Cursor:
    """Where the runs of a pack stand; counted while they train, never taken from the plan.

    `run_ids` are the pack's runs, joined by spaces. `horizon` is the number of finished branches,
    `in_branch` says whether the path is a branch or the trunk, `step` and `tokens` are what each model
    on this path has seen from its start, `spent_*` what all paths have, of one run. `loss_count` are
    the steps since the path's last evaluation, `looks` what was seen of the losses, `diverged` the
    reasons of the runs that have, by their place in the pack. `rows` are the windows of a pass where
    memory ran out with those of the spec.
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
    looks: Looks = field(default_factory=Looks)
    diverged: dict[str, str] = field(default_factory=dict)
    rows: int | None = None

    @property
    def progress(self) -> tuple[int, bool, int]:
        """What orders the states that runs go through: a branch comes after its trunk, the next trunk after it."""
        return self.horizon, self.in_branch, self.step


@dataclass(frozen=True)
class Checkpoint:
    """A sound state: its digest fits, and it is of the runs that asked for it."""

    path: Path
    cursor: Cursor
    tensors: dict[str, Tensor]


def save_checkpoint(path: Path, tensors: dict[str, Tensor], cursor: Cursor, previous: Path) -> None:
    """Write the state to `path` in one step, with the generators' states; the checkpoint before is kept at `previous`."""
    tensors = tensors | {f"generator/{name}": state for name, state in _generators().items()}
    with replacing(path) as temporary:
        _save(temporary, tensors, {"cursor": json.dumps(asdict(cursor))})
        keep(path, previous)


def read_cursor(path: Path, run_ids: str) -> Cursor:
    """The cursor of the checkpoint at `path`, which is not checked against its digest; Unsound where there is none."""
    return _cursor(_metadata(path), run_ids)


def read_checkpoint(path: Path, run_ids: str) -> Checkpoint:
    """The state at `path`, checked; Unsound where it is damaged, or of other runs than `run_ids`."""
    metadata, tensors = _read(path)
    return Checkpoint(path, _cursor(metadata, run_ids), tensors)


def restore_generators(tensors: dict[str, Tensor]) -> None:
    """Put torch's generators back to where a checkpoint found them."""
    torch.set_rng_state(tensors["generator/cpu"])
    if torch.cuda.is_available() and "generator/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["generator/cuda"])


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """The weights alone, with a few facts and their digest in the header."""
    with replacing(path) as temporary:
        _save(temporary, weights, metadata)


def read_weights(path: Path, run_id: str) -> dict[str, Tensor]:
    """What `save_weights` wrote of this run; FolderError where it is not there, damaged, or of another run."""
    remedy = "train the run anew in another folder"
    if not path.exists():
        raise FolderError(f"{path}: no weights, which a run leaves at its end; finish it with testbed train")
    try:
        metadata, tensors = _read(path)
    except Unsound as reason:
        raise FolderError(f"{path}: {reason}; {remedy}") from None
    if metadata.get("run_id") != run_id:
        raise FolderError(f"{path}: weights of {metadata.get('run_id')}, not of {run_id}; {remedy}")
    return tensors


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    held = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    try:
        # one entry, since the library writes several in any order
        header = json.dumps(metadata | {"digest": _digest(held, metadata)})
        save_file(held, path, metadata={_HEADER: header})
    except SafetensorError as error:  # that is how it tells of a full disk
        raise not_writable(path.with_name(path.name.lstrip(".").rpartition(".")[0]), OSError(str(error))) from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a file of `_save`, whose digest fits."""
    metadata = _metadata(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise Unsound(f"damaged ({error})") from None
    written = metadata.pop("digest", None)
    if written is None or written != _digest(tensors, metadata):
        raise Unsound("damaged (its content does not fit its digest)" if written else "damaged (no digest)")
    return metadata, tensors


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            return {str(name): str(value) for name, value in header.items()}
    except (SafetensorError, OSError, ValueError, LookupError, AttributeError) as error:
        raise Unsound(f"damaged ({error})") from None


def _cursor(metadata: dict[str, str], run_ids: str) -> Cursor:
    try:
        values: dict[str, Any] = json.loads(metadata["cursor"])
        cursor = Cursor(**{**values, "looks": Looks(**values["looks"])})
    except (KeyError, TypeError, ValueError):
        raise Unsound("damaged (its header has no cursor)") from None
    if any(type(getattr(cursor, of.name)) is not type(of.default) for of in fields(Cursor)[1:9]):
        raise Unsound("damaged (its cursor is none)")
    if cursor.run_ids != run_ids:
        raise Unsound(f"a checkpoint of {cursor.run_ids}, not of {run_ids}")
    return cursor


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of names, types, shapes, the tensors' own digests and the header."""
    names = sorted(tensors)
    contents = [tensors[name].reshape(-1).view(torch.uint8).numpy().data for name in names]
    if sum(content.nbytes for content in contents) > _ONE_THREAD:
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
            digests = list(threads.map(_sha256, contents))
    else:
        digests = list(map(_sha256, contents))
    parts = [
        [name, str(tensors[name].dtype), list(tensors[name].shape), digest]
        for name, digest in zip(names, digests, strict=True)
    ]
    return _sha256(canonical_json([parts, metadata]))


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _generators() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
