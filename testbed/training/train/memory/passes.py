"""How a run's batches go through its network: windows a pass, recomputed blocks, copies or shards; chosen for a device.

By the memory estimate, and on a GPU by measuring what fits and is fastest. Chosen when a study is
planned, and settled in its runs' engines, since it decides their rounding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from testbed.config import Train
from testbed.records import Engine, RunSpec
from testbed.training.data import TokenSource
from testbed.training.train.device.selection import make_repeatable
from testbed.training.train.learners import make_learner
from testbed.training.train.memory.footprint import Memory, estimate, fit_micro_rows, share_rows
from testbed.training.train.memory.peak import give_back
from testbed.training.train.memory.shortage import NoRoom
from testbed.units import show_bytes

_ROOMY = 0.25  # of what is available: a run that takes less passes its whole share at once, and nothing is measured
_FULL = 16384  # tokens of a pass that fill a GPU; fewer, and recomputed blocks that leave room for more may be faster
_STEPS = 3
_FACTOR = 1e-3  # share of the peak rates; whatever is learned here is thrown away


@dataclass(frozen=True)
class Choice:
    """A run with its engine settled, what one process of it takes, and what that may take, in bytes."""

    spec: RunSpec
    memory: Memory
    available: int
    measured: bool = False  # it was tried there, in that much memory

    @property
    def fits(self) -> bool:
        """Whether the run can be trained there: by trying, or else by the estimate."""
        return self.measured or self.memory.bytes <= self.available

    def sentence(self) -> str:
        """What was chosen and what does not fit; empty where a batch simply goes through at once."""
        engine, width = self.spec.engine, self.spec.shape.width
        needs = f"{show_bytes(self.memory.bytes)} of {show_bytes(self.available)}"
        if self.measured and self.memory.bytes > self.available:
            needs = f"fits {show_bytes(self.available)} as measured"
        ways = [f"{engine.micro_rows} window{'s' * (engine.micro_rows > 1)} a pass"] if engine.micro_rows else []
        ways += ["blocks recomputed"] if engine.recompute else []
        ways += [f"{engine.processes} processes with {'shards' if engine.sharded else 'copies'}"] * (
            engine.processes > 1
        )
        if not self.fits:
            return (
                f"width {width} does not fit: a process needs {needs} ({', '.join(ways) or 'the whole batch at once'}); "
                "share it among more GPUs (train.processes, target.processes), or leave train.micro_rows and "
                "train.recompute to auto"
            )
        return f"width {width}: {', '.join(ways)}; {needs}" if ways else ""


def choose_passes(
    spec: RunSpec, train: Train, device: torch.device, available: int, source: TokenSource | None = None
) -> Choice:
    """The run with everything settled that `train` leaves open; measured on a GPU if tokens are given to measure with.

    Blocks are recomputed, and shards made, only where memory asks for it. Where nothing fits the choice
    is the smallest there is, and says so.
    """
    spec = _with(spec, sharded=_shards(spec, train, available))
    ways = [
        _with(spec, recompute=again) for again in ((False, True) if train.recompute == "auto" else (train.recompute,))
    ]
    if train.micro_rows != "auto":
        fitting = [way for way in ways if estimate(way).bytes <= available]
        return _choice((fitting or ways[-1:])[0], available)
    options = (_with(way, micro_rows=most) for way in ways if (most := fit_micro_rows(way, available)))
    first = next(options, None)  # the others are sized only where they are asked for: it takes a second a width
    if first is None:
        return _choice(_with(ways[-1], micro_rows=1), available)
    measurable = device.type == "cuda" and source is not None and not spec.engine.sharded
    if measurable and estimate(first).bytes > _ROOMY * available:
        assert source is not None
        fitting = [first, *options]
        few = (first.engine.micro_rows or 0) * spec.shape.seq_len < _FULL
        candidates = [way for option in (fitting if few else fitting[:1]) for way in _around(option)]
        found = fastest(candidates, source, device, available)
        return _choice(found or fitting[-1], available, measured=found is not None)
    return _choice(first, available)


def fastest(
    candidates: Sequence[RunSpec], source: TokenSource, device: torch.device, available: int | None = None
) -> RunSpec | None:
    """The candidate that trains most tokens a second on `device`, one process of it; None where none fits.

    One that has to go on with smaller passes does not fit. On a GPU it has `available` bytes to fit in.
    """
    make_repeatable(candidates[0].deterministic)
    most = max(way.engine.micro_rows or share_rows(way) for way in candidates)
    batch = 2 * most * candidates[0].shape.seq_len  # the same for all, so that the optimiser weighs the same
    seconds: dict[int, float] = {}
    with _limited(device, available):
        for index, way in enumerate(candidates):
            tried = _with(way.model_copy(update={"batch_tokens": batch}), processes=1)
            taken = _step_seconds(tried, source, device)
            give_back()
            if taken is not None:
                seconds[index] = taken
    return candidates[min(seconds, key=lambda index: seconds[index])] if seconds else None


def _step_seconds(spec: RunSpec, source: TokenSource, device: torch.device) -> float | None:
    """Seconds of some optimiser steps; None where they do not fit."""
    try:
        learner = make_learner((spec,), source, device)
        learner.optimise(0, _FACTOR)  # libraries choose their kernels, a graph is captured
        learner.loss_sums()
        started = time.perf_counter()
        for step in range(_STEPS if learner.rows is None else 0):
            learner.optimise(step, _FACTOR)
        learner.loss_sums()  # waits for the device
    except (NoRoom, torch.OutOfMemoryError):
        return None
    return time.perf_counter() - started if learner.rows is None else None


@contextmanager
def _limited(device: torch.device, available: int | None) -> Iterator[None]:
    """Have this process take no more than so many bytes of a GPU beside what it holds."""
    if device.type != "cuda" or available is None:
        yield
        return
    total = torch.cuda.mem_get_info(device)[1]
    give_back()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved(device) + available) / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _around(way: RunSpec) -> Iterator[RunSpec]:
    """The estimated largest pass, the one above (it may fit after all) and two below."""
    share = share_rows(way)
    largest = way.engine.micro_rows or share
    for rows in dict.fromkeys(min(share, max(1, round(largest * factor))) for factor in (2.0, 1.0, 0.5, 0.25)):
        yield _with(way, micro_rows=rows)


def _shards(spec: RunSpec, train: Train, available: int) -> bool:
    if spec.engine.processes == 1 or train.sharded != "auto":
        return spec.engine.sharded
    held = estimate(_with(spec, micro_rows=1))
    return held.weights + held.gradients + held.moments > available / 2


def _choice(spec: RunSpec, available: int, measured: bool = False) -> Choice:
    if spec.engine.micro_rows is not None and spec.engine.micro_rows >= share_rows(spec):
        spec = _with(spec, micro_rows=None)
    return Choice(spec, estimate(spec), available, measured)


def _with(spec: RunSpec, **changes: object) -> RunSpec:
    return spec.model_copy(update={"engine": Engine.model_validate(spec.engine.model_dump() | changes)})
