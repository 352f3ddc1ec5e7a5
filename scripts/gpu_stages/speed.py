"""Tokens/s, MFU, memory and the seconds to a first step, for networks of the training bench; and the kernels of the largest."""

from __future__ import annotations

import gc
import time
from typing import Any

import torch

from scripts.gpu_stages.findings import DRY, Findings, device_name, timed, wait
from scripts.training_bench.ours import settings, specs
from scripts.training_bench.sizes import ReadyTokens
from scripts.training_bench.step import SIZES
from scripts.training_bench.table import datasheet_peak
from testbed.records import Engine
from testbed.training.train.device.selection import make_repeatable, set_precision
from testbed.training.train.learner import Learner
from testbed.training.train.memory.footprint import estimate
from testbed.training.train.module_learner import ModuleLearner
from testbed.training.train.packed_learner import PackedLearner

BEST_KNOWN = 989e12  # FLOP/s, dense bf16, of an H100 SXM (its datasheet): where the GPU is not in the bench's list


def speed(find: Findings) -> None:
    """The most telling first."""
    large, medium = ("10k", "10k") if DRY else ("124M", "10M")
    find.attempt(f"{large} eager", lambda: _measured(find, large, Engine(), profiled=True))
    if device_name() == "cuda" or not DRY:
        find.attempt(f"{large} compiled", lambda: _measured(find, large, Engine(compile=True), profiled=True))
    for name, pack in [("10k", 2)] if DRY else [("10k", 128), ("1M", 32), ("1M", 128), ("10M", 1)]:
        engine = Engine(pack=pack)
        find.attempt(f"{name} packed K={pack}", lambda name=name, engine=engine: _measured(find, name, engine))
    if not DRY:
        compiled = Engine(compile=True)
        find.attempt(f"{large} compiled, deterministic", lambda: _measured(find, large, compiled, deterministic=True))
        find.attempt(f"{medium} compiled", lambda: _measured(find, medium, compiled))


def _measured(
    find: Findings, name: str, engine: Engine, deterministic: bool = False, profiled: bool = False
) -> dict[str, Any]:
    size, device = SIZES[name][0], torch.device(device_name())
    source = ReadyTokens(size)
    runs = specs(size, source, engine, **settings(device.type, deterministic))
    make_repeatable(deterministic)
    set_precision(runs[0].precision, device)
    gc.collect()
    torch.cuda.empty_cache()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    learner = PackedLearner(runs, source, device) if engine.pack else ModuleLearner(runs[0], source, device)
    learner.optimise(0, 0.1)
    wait()
    first = time.perf_counter() - started
    seconds = timed(lambda: learner.optimise(1, 0.0), least=0.5)
    tokens = size.batch_tokens * len(runs)
    found = {
        "step ms": round(1e3 * seconds, 2),
        "tokens/s": round(tokens / seconds),
        "MFU %": round(100 * runs[0].counts.flops_per_token * tokens / seconds / _peak(device), 2),
        "first step s": round(first, 1),
        "peak GB": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "estimate GB": round(estimate(runs[0]).bytes / 1e9, 2),
        "captured": learner.whole_step.captured,
    }
    if profiled and device.type == "cuda":
        _profile(find, learner, f"{name} {engine} deterministic={deterministic}")
    return found


def _peak(device: torch.device) -> float:
    named = datasheet_peak(torch.cuda.get_device_name()) if device.type == "cuda" else None
    return named or BEST_KNOWN


def _profile(find: Findings, learner: Learner, title: str) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        learner.optimise(1, 0.0)
        torch.cuda.synchronize()
    table = seen.key_averages().table(sort_by="cuda_time_total", row_limit=60, max_name_column_width=110)
    with (find.out / "profile.txt").open("a") as file:
        file.write(f"\n=== {title}\n{table}\n")
