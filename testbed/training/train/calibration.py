"""What runs will take on this machine, time and memory, from a few measured steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch

from testbed.records import RunSpec
from testbed.training.data import TokenSource
from testbed.training.models import find_family
from testbed.training.train.device.selection import make_repeatable
from testbed.training.train.learner import Learner, make_learner
from testbed.training.train.memory.peak import give_back, peak

_UNCOUNTED = 2  # steps before the clock counts
_ROUNDS = 5
_ROUND_SECONDS = 0.04  # of steps in a round
_LEAST = 4  # steps in a round: twenty in all
_FACTOR = 1e-3  # share of the peak rates; whatever is learned here is thrown away


@dataclass(frozen=True)
class Measured:
    """Of a whole pack: seconds of one optimiser step and of one evaluation, and the most bytes that its steps take.

    `memory` is that of one process, without the libraries; None where the system does not count it.
    """

    step: float
    evaluation: float
    memory: int | None

    def seconds(self, spec: RunSpec) -> float:
        """Seconds from the pack's start to its end: its steps and its evaluations."""
        evaluations = sum(len(segment.eval_steps) for segment in spec.segments)
        return spec.steps * self.step + evaluations * self.evaluation


def measure(
    packs: Sequence[tuple[RunSpec, ...]], source_of: Callable[[RunSpec], TokenSource], device: torch.device
) -> list[Measured]:
    """What packs take on `device`, one thread on a CPU: times are medians of rounds in which each takes its turn.

    An evaluation is reckoned, as a step's third (its forward pass) for as many windows as it has. Of a run
    of several processes one process's share is measured, without what they exchange.
    """
    threads = torch.get_num_threads()
    sources = [source_of(pack[0]) for pack in packs]
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        make_repeatable(packs[0][0].deterministic)
        if device.type == "cpu":
            _started(packs[0], sources[0], device)  # libraries take what they keep
        started = [
            peak(partial(_started, pack, source, device), device) for pack, source in zip(packs, sources, strict=True)
        ]
        learners, memory = [learner for learner, _ in started], [most for _, most in started]
        del started
        counts = [max(_LEAST, round(_ROUND_SECONDS / _timed(learner, range(1), device))) for learner in learners]
        rounds = [
            [_timed(learner, range(count), device) for learner, count in zip(learners, counts, strict=True)]
            for _ in range(_ROUNDS)
        ]
        learners.clear()
        give_back()  # other processes will train there
    finally:
        torch.set_num_threads(threads)
    scales = [pack[0].counts.flops_per_token / _one_process(pack[0]).counts.flops_per_token for pack in packs]
    medians = [scale * median(times) for scale, times in zip(scales, zip(*rounds, strict=True), strict=True)]
    return [
        Measured(step, step / 3 * len(source.validation()) * pack[0].shape.seq_len / pack[0].batch_tokens, most)
        for step, most, pack, source in zip(medians, memory, packs, sources, strict=True)
    ]


def _started(pack: tuple[RunSpec, ...], source: TokenSource, device: torch.device) -> Learner:
    """The pack's learner after the steps that no clock counts."""
    learner = make_learner(tuple(map(_one_process, pack)), source, device)
    _timed(learner, range(_UNCOUNTED), device)
    return learner


def _one_process(spec: RunSpec) -> RunSpec:
    """A run of one process that does the work of one of the run's own; of shards with as much less depth."""
    engine, shape, counts = spec.engine, spec.shape, spec.counts
    if engine.processes == 1:
        return spec
    if engine.sharded:
        shape = shape.model_copy(update={"depth": max(1, shape.depth // engine.processes)})
        counts = find_family(shape.family).counts(shape)
    alone = engine.model_copy(update={"processes": 1, "sharded": False})
    share = spec.batch_tokens // engine.processes
    return spec.model_copy(update={"engine": alone, "shape": shape, "counts": counts, "batch_tokens": share})


def _timed(learner: Learner, steps: range, device: torch.device) -> float:
    """Seconds a step."""
    started = time.perf_counter()
    for step in steps:
        learner.optimise(step, _FACTOR)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / len(steps)
