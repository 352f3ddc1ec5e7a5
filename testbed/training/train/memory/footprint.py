"""The memory that a run needs, from its shape alone: nothing is allocated and no number is computed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from testbed.errors import ConfigError, TestbedError
from testbed.records import RunSpec, Shape
from testbed.training.models import find_family
from testbed.training.train.device.recompute import layers_of, recompute_layers
from testbed.training.train.scoring import BYTES_A_LOGIT, chunk_tokens

_FP32 = 4  # bytes of a weight, a gradient and each of AdamW's two moments
_USABLE = (
    0.85  # of what is free: the rest is for the allocator's gaps, libraries' workspaces and the validation windows
)


@dataclass(frozen=True)
class Memory:
    """Bytes that one process holds when a step needs most, by what they are for.

    `activations` are what the way forward keeps for the way back, `backward` what that holds in passing
    (gradients as wide as a feed-forward, three at a time), `logits` those held at a time with their
    losses and gradients.
    """

    weights: int
    gradients: int
    moments: int
    activations: int
    backward: int
    logits: int

    @property
    def bytes(self) -> int:
        """All of them."""
        return sum(getattr(self, field.name) for field in fields(self))


def share_rows(spec: RunSpec) -> int:
    """Windows of a batch that one process of the run takes."""
    return spec.batch_tokens // spec.shape.seq_len // spec.engine.processes


def estimate(spec: RunSpec) -> Memory:
    """The memory of one process of the run, of its whole pack where it is trained in one.

    Weights, gradients and moments are exact; activations are those of the family's own module, traced on
    tensors without content (a packed network keeps about as much for each run). Buffers that a
    library takes for itself are not in it.
    """
    engine, runs = spec.engine, spec.engine.pack or 1
    rows = min(engine.micro_rows or share_rows(spec), share_rows(spec))
    kept = _kept_bytes(spec.shape.model_dump_json(), spec.precision == "bf16", engine.recompute)
    tokens, chunk = rows * spec.shape.seq_len, chunk_tokens(spec.shape.vocab_size)
    logits = BYTES_A_LOGIT * spec.shape.vocab_size * min(tokens, chunk)
    if tokens > chunk:  # then the head's gradients are summed up beside those of the network
        logits += _FP32 * spec.shape.vocab_size * spec.shape.width
    held = _FP32 * -(-spec.counts.n_params_total // (engine.processes if engine.sharded else 1))
    return Memory(
        weights=runs * held,
        gradients=runs * held,
        moments=runs * 2 * held,
        activations=runs * kept(rows),
        backward=runs * 3 * _FP32 * 4 * spec.shape.width * tokens,
        logits=runs * logits,
    )


def fit_micro_rows(spec: RunSpec, available: int) -> int | None:
    """Windows of the largest pass with which the run takes at most `available` bytes.

    That is the whole share of a process, or else a power of two; None where not even one window fits.
    """
    whole = share_rows(spec)
    rows = whole
    while rows and estimate(_passing(spec, rows)).bytes > available:
        rows = (1 << (rows - 1).bit_length()) // 2  # the next power of two below
    return rows or None


def available_bytes(device: torch.device, sharers: int = 1) -> int:
    """Bytes that one of `sharers` runs may use of the device's memory: of what is free on a GPU, of all that a CPU has."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(_USABLE * free) // sharers


def _passing(spec: RunSpec, rows: int) -> RunSpec:
    return spec.model_copy(update={"engine": spec.engine.model_copy(update={"micro_rows": rows})})


@lru_cache(maxsize=256)
def _kept_bytes(shape_json: str, bf16: bool, recompute: bool) -> Callable[[int], int]:
    """Bytes kept by a network of this shape for so many windows: linear in its depth and in the windows.

    So networks of one and two layers on one and two windows tell of all. Recomputed blocks keep their
    inputs, and one of them at a time everything.
    """
    shape = Shape.model_validate_json(shape_json)

    def linear(again: bool) -> tuple[float, float, float, float]:
        traced = {
            (n, b): _traced(shape.model_copy(update={"depth": n}), b, bf16, again) for n in (1, 2) for b in (1, 2)
        }
        block = {b: traced[2, b] - traced[1, b] for b in (1, 2)}
        rest = {b: traced[1, b] - block[b] for b in (1, 2)}
        return rest[1], rest[2] - rest[1], block[1], block[2] - block[1]

    rest, rest_slope, block, block_slope = linear(recompute)
    _, _, whole, whole_slope = linear(False) if recompute else (0, 0, 0, 0)

    def kept(rows: int) -> int:
        more = rows - 1
        every = rest + more * rest_slope + shape.depth * (block + more * block_slope)
        return round(every + whole + more * whole_slope)

    return kept


def _traced(shape: Shape, rows: int, bf16: bool, recompute: bool) -> int:
    """Bytes that the network keeps for the way back from `rows` windows, weights aside."""
    try:
        return _kept_in(FakeTensorMode(), shape, rows, bf16, recompute)
    except ConfigError:
        if not shape.family.startswith("hf:"):
            raise
        return _kept_in(nullcontext(), shape, rows, bf16, recompute)  # nobody can be asked to write it with masks


def _kept_in(mode: AbstractContextManager[object], shape: Shape, rows: int, bf16: bool, recompute: bool) -> int:
    """The same, on tensors without content in a `FakeTensorMode`, else by running the network."""
    kept: list[Tensor] = []  # holding them keeps their storages apart

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with mode, torch.random.fork_rng(devices=()):
        try:
            family = find_family(shape.family)
            network = family.build(shape, 0)
            if recompute:
                recompute_layers(layers_of(network, family))
            ids = torch.zeros((rows, shape.seq_len), dtype=torch.long)
            with (
                torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
                torch.autocast("cpu", torch.bfloat16, enabled=bf16),
            ):
                network(ids)
        except TestbedError:
            raise
        except Exception as error:  # whatever a family's code may raise
            raise ConfigError(
                f"model.family: the network of {shape.family!r} cannot be traced on shapes alone "
                f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0]}); build it and compute its logits "
                "without reading the values of a tensor (nonzero, item, if): with masks, over all of its branches"
            ) from error
        storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in kept}
        own = {p.untyped_storage()._cdata for p in (*network.parameters(), *network.buffers())}
    return sum(size for key, size in storages.items() if key not in own)
