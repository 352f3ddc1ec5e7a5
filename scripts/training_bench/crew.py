"""Contenders in processes of their own, timed in turns. See __init__.py.

Each contender has a process, so its peak memory is its own; the parent lets one of them work at a time
and takes them in turns, round after round, so that what the machine does meanwhile falls on all alike.
On a CPU the processes are forked from one that has the libraries loaded, so none pays for imports.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

LOADED = ["numpy", "pandas", "pydantic", "torch", "transformers.trainer", "transformers.models.gpt2.modeling_gpt2"]
MALLOPT = {"M_MMAP_THRESHOLD": -3, "M_TRIM_THRESHOLD": -1}  # of glibc's malloc.h
WARM_UP = 4  # steps before the pace is taken


class Enough(Exception):
    """The parent has all it wants."""


@dataclass(frozen=True)
class Entry:
    """A contender: `work(tick, *arguments)` makes itself ready and then calls `tick()` after each step, for ever.

    `tokens` is what one step trains on. `keeps_memory` is what the product's executor asks of glibc for its
    workers: freed blocks are kept, not given back and faulted in again at every step.
    """

    work: Callable[..., None]
    arguments: tuple[Any, ...]
    tokens: int
    keeps_memory: bool = True


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock on the wall, and of CPU time."""

    wall: float
    cpu: float


@dataclass
class Outcome:
    """What a contender did: its rounds of `steps` steps, what it took to be ready (a first step included), its memory in bytes.

    `clock` names the times that count: CPU seconds on a CPU, else wall. `error` says why there is nothing to see.
    """

    tokens: int
    clock: str
    rounds: list[Spent] = field(default_factory=list)
    steps: int = 0
    ready: Spent | None = None
    memory: int | None = None
    error: str | None = None

    def step(self, clock: str | None = None) -> float:
        """Median seconds of one step."""
        return statistics.median(getattr(spent, clock or self.clock) for spent in self.rounds) / self.steps

    @property
    def tokens_per_second(self) -> float:
        """By the median round."""
        return self.tokens / self.step()


class Tick:
    """Counts the steps of a contender, and hands over to the parent when a round is done."""

    def __init__(self, pipe: Connection, device: str) -> None:
        self._pipe, self._device = pipe, device
        self._left, self._started = 1, self._clocks()

    def __call__(self) -> None:
        """A step is done; waits for the parent between rounds, and raises Enough when it has all it wants."""
        self._left -= 1
        if self._left:
            return
        now = self._clocks()
        self._pipe.send(Spent(now.wall - self._started.wall, now.cpu - self._started.cpu))
        self._left = self._pipe.recv()
        if not self._left:
            raise Enough
        self._started = self._clocks()

    def restart(self) -> None:
        """What was done so far is no part of getting ready."""
        self._started = self._clocks()

    def _clocks(self) -> Spent:
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()
        return Spent(time.perf_counter(), time.process_time())


@dataclass(frozen=True)
class Track:
    """Where and how long contenders are timed: `repeats` rounds of at least about `seconds` each."""

    device: str
    repeats: int
    seconds: float

    def race(self, entries: Mapping[str, Entry], together: bool = True) -> dict[str, Outcome]:
        """Every entry's rounds: in turns, or, where not all fit into memory `together`, one entry after the other."""
        if not together:
            return {name: self.race({name: entry})[name] for name, entry in entries.items()}
        crew: dict[str, _Seat] = {}
        try:
            for name, entry in entries.items():
                crew[name] = _Seat(entry, self.device)
                crew[name].warm_up(self.seconds)
            for _ in range(self.repeats):
                for seat in crew.values():
                    seat.round()
        finally:
            for seat in crew.values():
                seat.leave()
        return {name: seat.outcome for name, seat in crew.items()}


class _Seat:
    """The parent's side of one contender."""

    def __init__(self, entry: Entry, device: str) -> None:
        self.outcome = Outcome(entry.tokens, "wall" if device == "cuda" else "cpu")
        processes = context(device)
        self._pipe, theirs = processes.Pipe()
        self._process = processes.Process(target=_contend, args=(theirs, entry, device), daemon=True)
        self._process.start()
        theirs.close()
        self.outcome.ready = self._take(None)

    def warm_up(self, seconds: float) -> None:
        """Some steps that do not count; from their pace, the steps of a round."""
        self._take(WARM_UP)
        spent = self._take(WARM_UP)
        if spent is not None:
            pace = getattr(spent, self.outcome.clock) / WARM_UP
            self.outcome.steps = max(2, math.ceil(seconds / pace))

    def round(self) -> None:
        """A round that counts."""
        spent = self._take(self.outcome.steps)
        if spent is not None:
            self.outcome.rounds.append(spent)

    def leave(self) -> None:
        """Send the contender home; it says how much memory it took."""
        last = self._take(0)
        if last is not None:
            self.outcome.memory = last
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()

    def _take(self, steps: int | None) -> Any:
        """The answer to an order of so many steps; None from a contender that has failed."""
        if self.outcome.error is not None:
            return None
        try:
            if steps is not None:
                self._pipe.send(steps)
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            answer = "its process died"
        if isinstance(answer, str):
            self.outcome.error = answer
            return None
        return answer


def context(device: str) -> Any:
    """How processes are started: for a CPU forked from one with the libraries loaded, where the system can.

    For CUDA each starts anew: libraries that ask for devices while they are loaded spoil it for forks.
    """
    if device == "cuda" or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(LOADED)
    return made


def _contend(pipe: Connection, entry: Entry, device: str) -> None:
    import torch

    if device == "cpu":
        torch.set_num_threads(1)
    if entry.keeps_memory:
        keep_memory()
    before = _peak_rss()
    tick = Tick(pipe, device)
    try:
        entry.work(tick, *entry.arguments)
    except Enough:
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else _peak_rss() - before
        pipe.send(peak)
    except (KeyboardInterrupt, BrokenPipeError):
        return
    except BaseException as error:  # a contender that fails is a row with a reason, not the end of the bench
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200])


def keep_memory() -> None:
    """From here on glibc keeps what is freed; elsewhere nothing changes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for option in MALLOPT.values() if mallopt else ():
        mallopt(option, 2**31 - 1)


def _peak_rss() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
