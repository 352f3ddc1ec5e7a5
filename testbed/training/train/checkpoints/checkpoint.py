"""Checkpoints: the state of a pack's runs in one safetensors file, with cursor and digest in its JSON header.

A file is written completely or not at all, and read only if its digest fits and it belongs to the runs that ask.
Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from testbed.errors import FolderError
from testbed.files import canonical_json, keep, not_writable, replacing
from testbed.records import Record, RunSpec, Segment, problem
from testbed.records.record import Positive, Whole
from testbed.training.train.divergence import Looks

_HEADER = "testbed"
_THREADS = 8  # at most, for digests: one thread hashes no faster than a disk writes
_ONE_THREAD = 1 << 24  # bytes of a state up to which starting further threads does not pay


class Unsound(Exception):
    """A checkpoint that cannot be resumed; the message says what is wrong with it."""


class Cursor(Record):
    """The position of the runs of a pack on their path; counted while they train, never taken from the plan.

    `run_ids` are the ids of the pack's runs, joined by spaces. `horizon` is the number of finished branches,
    `in_branch` says whether the runs are on a branch or on the trunk. `step` and `tokens` are what each model
    has seen from its start on this path; `spent_*` count all paths of one run. `loss_count` are the steps
    since the last evaluation on this path, `looks` the training losses seen since then, `diverged` the
    reasons of the runs that have diverged, by their place in the pack. `rows` are the windows of a pass after
    memory has run out with those of the spec.
    """

    model_config = ConfigDict(frozen=False, strict=True, allow_inf_nan=True, ser_json_inf_nan="constants")

    run_ids: str
    horizon: Whole = 0
    in_branch: bool = False
    step: Whole = 0
    tokens: Whole = 0
    spent_steps: Whole = 0
    spent_tokens: Whole = 0
    spent_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    loss_count: Whole = 0
    looks: Looks = Field(default_factory=Looks)
    diverged: dict[str, str] = Field(default_factory=dict)
    rows: Positive | None = None

    @property
    def place(self) -> int:
        """The number of segments of the path (see `RunSpec.segments`) that lie behind; also orders checkpoints with `step`."""
        return 2 * self.horizon + self.in_branch

    def segment(self, spec: RunSpec) -> Segment | None:
        """The segment in which the runs are; None at the end of their path."""
        return spec.segments[self.place] if self.place < len(spec.segments) else None


@dataclass(frozen=True)
class Checkpoint:
    """An intact state of the runs that asked for it."""

    path: Path
    cursor: Cursor
    tensors: dict[str, Tensor]


def save_checkpoint(path: Path, tensors: dict[str, Tensor], cursor: Cursor, previous: Path) -> None:
    """Write the state, with those of the random generators, to `path` atomically; `previous` keeps the checkpoint before."""
    tensors = tensors | {f"generator/{name}": state for name, state in _generators().items()}
    with replacing(path) as temporary:
        _save(temporary, tensors, {"cursor": cursor.model_dump_json()})
        keep(path, previous)


def read_cursor(path: Path, run_ids: str) -> Cursor:
    """The cursor of the checkpoint at `path`, without checking the digest; raises Unsound where there is none."""
    return _cursor(_metadata(path), run_ids)


def read_checkpoint(path: Path, run_ids: str) -> Checkpoint:
    """The state at `path`; raises Unsound where it is damaged or belongs to other runs than `run_ids`."""
    metadata, tensors = _read(path)
    return Checkpoint(path, _cursor(metadata, run_ids), tensors)


def restore_generators(tensors: dict[str, Tensor]) -> None:
    """Set torch's random generators to their states in a checkpoint."""
    torch.set_rng_state(tensors["generator/cpu"])
    if torch.cuda.is_available() and "generator/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["generator/cuda"])


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write the weights alone, with `metadata` and a digest in the header."""
    with replacing(path) as temporary:
        _save(temporary, weights, metadata)


def read_weights(path: Path, run_id: str) -> dict[str, Tensor]:
    """The weights that `save_weights` wrote for this run.

    Raises FolderError where the file is missing, damaged, or of another run.
    """
    remedy = "train the run again in another folder"
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
        # one entry, because the library writes several in no fixed order
        header = json.dumps(metadata | {"digest": _digest(held, metadata)})
        save_file(held, path, metadata={_HEADER: header})
    except SafetensorError as error:  # raised for a full disk
        raise not_writable(path.with_name(path.name.lstrip(".").rpartition(".")[0]), OSError(str(error))) from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a file that `_save` wrote; raises Unsound unless the digest fits."""
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
    if "cursor" not in metadata:
        raise Unsound("damaged (its header has no cursor)")
    try:
        cursor = Cursor.model_validate_json(metadata["cursor"])
    except ValidationError as error:
        raise Unsound(f"damaged (its cursor: {problem(error)})") from None
    if cursor.run_ids != run_ids:
        raise Unsound(f"a checkpoint of {cursor.run_ids[:500]}, not of {run_ids}")
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
