"""The product's learners as contenders, and a matrix product as the measure of the device. See __init__.py."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import torch

from scripts.training_bench.sizes import ReadyTokens, Size
from testbed.records import Engine, RunSpec
from testbed.training.sweep import plan
from testbed.training.train.device.selection import make_repeatable
from testbed.training.train.learners import make_learner
from testbed.training.train.memory.footprint import available_bytes, fit_micro_rows, share_rows


def specs(size: Size, source: ReadyTokens, engine: Engine, packs: int = 1, **train: Any) -> tuple[RunSpec, ...]:
    """The runs of so many packs of this engine; by the family's own module a pack is one run."""
    grid = plan(size.config(packs * (engine.pack or 1), **train), source.facts).grid
    return tuple(spec.model_copy(update={"engine": engine}) for spec in grid)


def settings(device: str, deterministic: bool) -> dict[str, Any]:
    """The part of the recipe that the device decides: every contender computes in bf16 on a GPU."""
    return {"precision": "bf16" if device == "cuda" else "fp32", "deterministic": deterministic}


def ours(tick: Callable[[], None], size: Size, device: str, engine: Engine, deterministic: bool) -> None:
    """A pack, or one run, through the product's learner."""
    source, where = ReadyTokens(size), torch.device(device)
    runs = specs(size, source, engine, **settings(device, deterministic))
    if device == "cuda" and engine.pack is None:
        runs = (_fitting(runs[0], available_bytes(where)),)
    make_repeatable(deterministic)
    learner = make_learner(runs, source, where)
    for step in count():
        learner.optimise(step, 1.0)
        tick()


def _fitting(spec: RunSpec, available: int) -> RunSpec:
    """The run in the largest passes that fit into the memory; its blocks computed twice where it must be."""
    for recompute in (False, True):
        tried = spec.model_copy(update={"engine": spec.engine.model_copy(update={"recompute": recompute})})
        rows = fit_micro_rows(tried, available)
        if rows is not None:
            engine = tried.engine.model_copy(update={"micro_rows": rows if rows < share_rows(tried) else None})
            return tried.model_copy(update={"engine": engine})
    raise MemoryError(f"not one window fits into {available} bytes")


def matmul(tick: Callable[[], None], side: int, device: str) -> None:
    """Products of two square matrices in the type that the contenders compute in."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    while True:
        torch.mm(a, b, out=out)
        tick()
