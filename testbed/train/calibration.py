"""How long a run will take on this machine, from a few measured steps of its shape."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from testbed.data import TokenSource
from testbed.records import RunSpec
from testbed.train.loop import Interruptions, TrainingState
from testbed.train.schedule import branch_eval_steps

_STEPS = 20
_UNCOUNTED = 3


@dataclass(frozen=True)
class Pace:
    """Seconds of one optimiser step and of one evaluation."""

    step: float
    evaluation: float

    def seconds(self, spec: RunSpec) -> float:
        """Seconds that a whole run takes: its steps and its evaluations."""
        evaluations = len(spec.trunk_evals) + sum(len(branch_eval_steps(h, spec.branch_evals)) for h in spec.horizons)
        return spec.steps * self.step + evaluations * self.evaluation


def measure_pace(spec: RunSpec, source: TokenSource, device: torch.device) -> Pace:
    """The median of 20 steps, and one evaluation, of this run's shape on `device`, one thread on a CPU."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        state = TrainingState(spec, source, Path(), device, frozenset(), Interruptions())
        steps = sorted(_timed(lambda: state.optimise(None), device) for _ in range(_UNCOUNTED + _STEPS))
        evaluation = _timed(lambda: state.evaluate(None, spec.horizons[0].steps), device)
        return Pace(steps[len(steps) // 2], evaluation)
    finally:
        torch.set_num_threads(threads)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
