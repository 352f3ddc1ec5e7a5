"""Whole optimiser steps as CUDA graphs, and compiled networks: one launch a step, one capture or compilation a shape.

Nothing here decides what is computed: a replayed step runs the very kernels that were captured.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from testbed.records import RunSpec

_WARM_UP = 3  # steps before a capture: libraries choose and allocate what they need, compilers compile
_PAID_BACK = 5e16  # training FLOPs on a GPU of a Hopper's size: 3 minutes, of which a compiled network saves about 40 s
_SHAPES = 64  # that one process may compile a network's code for; torch gives up after 8 by itself

captures: Counter[str] = Counter()  # graphs captured by this process, by the label of their shape
_log = logging.getLogger(__name__)


class WholeStep:
    """A step that reads and writes static tensors only, and never waits for the device: on CUDA, one graph.

    It is captured at the first call, after a few eager steps that are undone, so that every step that
    counts is a replay, whichever run it belongs to. Where capturing fails it stays an eager step, and
    the log says why. It keeps the graph and nothing of the learner, which it would keep alive.
    """

    def __init__(self, label: str, capture: bool) -> None:
        """`label` names the shape in the log; without `capture` the step stays eager, as it does on a CPU."""
        self._label, self._waits = label, capture
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def captured(self) -> bool:
        """Whether steps are replays of a graph by now."""
        return self._graph is not None

    def __call__(
        self,
        step: Callable[[], None],
        state: Callable[[], dict[str, Tensor]],
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        """Do `step`, the same at every call; `state` gives all tensors that it changes.

        `forget` drops what a failed capture left behind.
        """
        if self._waits:
            self._capture(step, state, forget)
            self._waits = False
        if self._graph is not None:
            self._graph.replay()
        else:
            step()

    def _capture(
        self, step: Callable[[], None], state: Callable[[], dict[str, Tensor]], forget: Callable[[], None]
    ) -> None:
        before = {name: tensor.detach().cpu() for name, tensor in state().items()}
        random = torch.cuda.get_rng_state()
        stream = _stream()
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    step()
                reason = self._record(step, stream)
                if reason is not None:
                    forget()
                    _recover()
                    _log.warning("%s: its step cannot be captured and stays eager: %s", self._label, reason)
        finally:  # also where memory ran out in the steps before
            torch.cuda.current_stream().wait_stream(stream)
            for name, tensor in state().items():
                tensor.detach().copy_(before[name])
            torch.cuda.set_rng_state(random)

    def _record(self, step: Callable[[], None], stream: torch.cuda.Stream) -> str | None:
        """Capture the step; what went wrong where it cannot be, with no traceback, which would hold the graph."""
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: the feed's thread may pin memory meanwhile
            with torch.cuda.graph(graph, pool=_pool(), stream=stream, capture_error_mode="thread_local"):
                step()
        except RuntimeError as error:
            return str(error)
        self._graph = graph
        captures[self._label] += 1
        _log.info("%s: step captured", self._label)
        return None


def label(spec: RunSpec) -> str:
    """The shape and engine of a learner's step, for the log."""
    engine = " ".join(f"{name}={value}" for name, value in spec.engine if value)
    return f"{spec.shape.family} width {spec.shape.width} depth {spec.shape.depth} {engine}".strip()


@cache
def _stream() -> torch.cuda.Stream:
    """The stream of every capture and its warm-up: handles of libraries, and gradients, belong to a stream."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


@cache
def _pool() -> Any:
    """The memory of every graph of this process: no step leaves anything there, so any may follow any."""
    return torch.cuda.graph_pool_handle()


def _recover() -> None:
    """Put in order what a failed capture leaves behind, so that others can be captured and memory is given back.

    torch 2.11 and earlier return from CUDAGraph::capture_end before the allocators and the generator are told
    that the capture is over (pytorch/pytorch#180395): the pool records on, every later capture in it fails,
    empty_cache gives nothing back, and random numbers on the device raise. So the pool is ended and let go, the
    next capture gets another, and a capture that succeeds takes the generator out of its state.
    """
    pool, device = _pool(), torch.cuda.current_device()
    _pool.cache_clear()
    try:
        torch._C._cuda_endAllocateToPool(device, pool)
    except (RuntimeError, AttributeError):  # it was ended, as later versions of torch do, which may not have the call
        pass
    else:
        torch._C._cuda_releasePool(device, pool)
    nothing, graph = torch.zeros(1, device="cuda"), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool(), stream=_stream(), capture_error_mode="thread_local"):
        nothing.zero_()


def compiling_pays(flops: float) -> bool:
    """Whether training of so many FLOPs, of one shape, saves the half minute or more that compiling it takes."""
    return flops >= _PAID_BACK


def compiled(network: nn.Module, deterministic: bool) -> Callable[[Tensor], Tensor]:
    """The same function through torch.compile; networks of one shape share their code.

    Where `deterministic`, nothing that decides a rounding is chosen by timing.
    """
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(_SHAPES, torch._dynamo.config.recompile_limit)
    options: dict[str, Any] | None = {"deterministic": True} if deterministic else None
    function: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False, options=options)
    return function
