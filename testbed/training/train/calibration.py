"""Measures a few steps of packs on this machine, to predict time and memory of their runs."""

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
from testbed.training.train.learner import Learner
from testbed.training.train.learners import make_learner
from testbed.training.train.memory.peak import give_back, peak

_UNCOUNTED = 2  # steps before the clock counts
_ROUNDS = 5
_ROUND_SECONDS = 0.04  # of steps in a round
_LEAST = 4  # steps in a round: twenty in all
_FACTOR = 1e-3  # share of the peak learning rates; the weights are discarded


@dataclass(frozen=True)
class Measured:
    """Cost of a whole pack: seconds of one optimiser step and of one evaluation, and the peak memory of a step in bytes.

    `memory` is that of one process without its libraries; None where the system does not count it.
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
    """The cost of each pack on `device`, with one thread on a CPU; `source_of` opens the data of a run.

    Times are medians over rounds in which the packs take turns. An evaluation is not measured: it counts as a third of a
    step (the forward pass) for each batch of its windows. A run of several processes is measured by the share of one of
    them, without their communication.
    """
    threads = torch.get_num_threads()
    sources = [source_of(pack[0]) for pack in packs]
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        make_repeatable(packs[0][0].deterministic)
        if device.type == "cpu":
            _started(packs[0], sources[0], device)  # loads libraries, whose memory is not the pack's
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
        give_back()  # for the processes that will train
    finally:
        torch.set_num_threads(threads)
    scales = [pack[0].counts.flops_per_token / _one_process(pack[0]).counts.flops_per_token for pack in packs]
    medians = [scale * median(times) for scale, times in zip(scales, zip(*rounds, strict=True), strict=True)]
    return [
        Measured(step, step / 3 * len(source.validation()) * pack[0].shape.seq_len / pack[0].batch_tokens, most)
        for step, most, pack, source in zip(medians, memory, packs, sources, strict=True)
    ]


def _started(pack: tuple[RunSpec, ...], source: TokenSource, device: torch.device) -> Learner:
    """The pack's learner after its first steps, which are not timed."""
    learner = make_learner(tuple(map(_one_process, pack)), source, device)
    _timed(learner, range(_UNCOUNTED), device)
    return learner


def _one_process(spec: RunSpec) -> RunSpec:
    """A run of one process with the work of one process of `spec`; where that is a shard, with as much less depth."""
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
    """Mean seconds of a step."""
    started = time.perf_counter()
    for step in steps:
        learner.optimise(step, _FACTOR)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / len(steps)
