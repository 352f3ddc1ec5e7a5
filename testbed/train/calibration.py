"""How long a pack will take on this machine, from a few measured steps of its shape."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from testbed.data import TokenSource
from testbed.records import RunSpec
from testbed.train.device import make_repeatable
from testbed.train.learner import make_learner
from testbed.train.schedule import branch_eval_steps

_STEPS = 20
_UNCOUNTED = 3


@dataclass(frozen=True)
class Pace:
    """Seconds of one optimiser step and of one evaluation, of the whole pack."""

    step: float
    evaluation: float

    def seconds(self, spec: RunSpec) -> float:
        """Seconds from a pack's start to its end: its steps and its evaluations."""
        evaluations = len(spec.trunk_evals) + sum(len(branch_eval_steps(h, spec.branch_evals)) for h in spec.horizons)
        return spec.steps * self.step + evaluations * self.evaluation


def measure_pace(specs: tuple[RunSpec, ...], source: TokenSource, device: torch.device) -> Pace:
    """The median of 20 steps, and one evaluation, of this pack on `device`, one thread on a CPU."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        make_repeatable(specs[0].deterministic)
        learner = make_learner(specs, source, device)
        steps = sorted(_timed(partial(learner.optimise, i, 1e-3), device) for i in range(_UNCOUNTED + _STEPS))
        return Pace(steps[len(steps) // 2], _timed(learner.validate, device))
    finally:
        torch.set_num_threads(threads)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
