"""Each kind of learner: captured or not, the same losses as eager steps, its memory, the attention that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import torch

from scripts.gpu_stages.findings import DRY, Findings, device_name, timed
from testbed.config import check_config
from testbed.records import RunSpec
from testbed.training.data import TokenSource, open_source
from testbed.training.sweep import packed, plan
from testbed.training.train.device.cuda_graphs import WholeStep
from testbed.training.train.device.selection import make_repeatable, set_precision
from testbed.training.train.memory.footprint import estimate
from testbed.training.train.module_learner import ModuleLearner
from testbed.training.train.packed_learner import PackedLearner

ATTENTION = ("flash", "fmha", "cudnn", "sdpa")  # parts of its kernels' names


class Kind(NamedTuple):
    """What a learner is made for; without `pack` it is of the family's own module."""

    family: str
    precision: str
    pack: int | None
    deterministic: bool
    head_size: int = 32

    def words(self) -> str:
        """The name of its finding."""
        engine = f"packed K={self.pack}" if self.pack else "module"
        name = f"{self.family} {self.precision} {engine} heads of {self.head_size}"
        return f"{name} deterministic" if self.deterministic else name


KINDS: Sequence[Kind] = (
    *(Kind("gpt", *chosen) for chosen in product(("bf16", "fp32"), (None, 4), (True, False))),
    Kind("gpt", "bf16", 4, False, 8),
    Kind("hf:gpt2", "bf16", None, True),
    Kind("hf:llama", "bf16", None, True),
)


def learners(find: Findings) -> None:
    """Every kind, and last what a step that cannot be captured leaves behind."""
    for kind in KINDS:
        find.attempt(kind.words(), lambda kind=kind: _beside_eager(kind))
    if device_name() == "cuda":
        find.attempt("after a failed capture", _after_a_failed_capture)


def _made(kind: Kind) -> tuple[tuple[RunSpec, ...], TokenSource]:
    config = check_config(
        {
            "name": "check",
            "data": {"source": "synthetic:zipf", "seq_len": 32 if DRY else 128, "val_windows": 64},
            "model": {"family": kind.family, "head_size": kind.head_size, "depth": 1 if DRY else 3},
            "train": {
                "batch_tokens": 256 if DRY else 4096,
                "precision": kind.precision,
                "deterministic": kind.deterministic,
            },
            "grid": {
                "widths": [4 * kind.head_size],
                "tokens": [4096 * 1000],
                "init_seeds": list(range(kind.pack or 1)),
            },
        },
        "gpu_check",
    )
    source = open_source(config.data)
    return packed(plan(config, source.facts).grid, kind.pack), source


def _learner(kind: Kind) -> tuple[ModuleLearner | PackedLearner, RunSpec]:
    specs, source = _made(kind)
    device = torch.device(device_name())
    make_repeatable(kind.deterministic)
    set_precision(specs[0].precision, device)
    learner = PackedLearner(specs, source, device) if kind.pack else ModuleLearner(specs[0], source, device)
    return learner, specs[0]


def _beside_eager(kind: Kind) -> dict[str, Any]:
    cuda = device_name() == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    captured, spec = _learner(kind)
    captured.optimise(0, 0.5)
    peak = torch.cuda.max_memory_allocated() - held
    eager, _ = _learner(kind)
    eager.whole_step = WholeStep("eager", capture=False)
    eager.optimise(0, 0.5)
    for step in range(1, 3 if DRY else 20):
        captured.optimise(step, 0.5)
        eager.optimise(step, 0.5)
    sums = zip(captured.loss_sums(), eager.loss_sums(), strict=True)
    return {
        "captured": captured.whole_step.captured,
        "losses differ from eager ones by": max(abs(a / b - 1) if b else abs(a) for a, b in sums),
        "step ms": round(1e3 * timed(lambda: captured.optimise(20, 0.0)), 3),
        "peak MB": round(peak / 1e6),  # with tokens of many steps ahead, which the estimate leaves out
        "estimate MB": round(estimate(spec).bytes / 1e6),
        **(_kernels(eager) if cuda else {}),
    }


def _kernels(learner: ModuleLearner | PackedLearner) -> dict[str, Any]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        learner.optimise(21, 0.0)
        torch.cuda.synchronize()
    names = [event.key for event in seen.key_averages()]
    attention = sorted({name[:50] for name in names if any(part in name for part in ATTENTION)})
    return {"kinds of kernels": len(names), "attention": attention[:4]}


class _Waiting(ModuleLearner):
    """Waits for the device in its step, which no capture may."""

    def _step(self) -> None:
        super()._step()
        float(self._loss_sum)


def _after_a_failed_capture() -> dict[str, Any]:
    specs, source = _made(KINDS[0])
    waiting, again = (kind(specs[0], source, torch.device("cuda")) for kind in (_Waiting, ModuleLearner))
    waiting.optimise(0, 0.5)
    again.optimise(0, 0.5)
    found: dict[str, Any] = {"captured": waiting.whole_step.captured, "the next": again.whole_step.captured}
    try:
        torch.randn(2, device="cuda")
        found["random numbers"] = "drawn"
    except RuntimeError as error:
        found["random numbers"] = str(error)[:100]
    return found
