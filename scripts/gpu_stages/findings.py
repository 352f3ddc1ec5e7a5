"""Findings of a stage, each in OUT/results.json as soon as it is made, and the clock of a device."""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

DRY = bool(os.environ.get("GPU_CHECK_DRY"))  # small shapes: to try the script, on whatever device there is


class Findings:
    """What one stage finds; calling it with a name and a value keeps them."""

    def __init__(self, out: Path, stage: str) -> None:
        self.out, self._stage = out, stage
        self._path = out / "results.json"

    def __call__(self, name: str, found: Any) -> None:
        """Keep a finding, a value of JSON, and print it."""
        whole = json.loads(self._path.read_text()) if self._path.exists() else {}
        whole.setdefault(self._stage, {})[name] = found
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(whole, indent=1, default=str))
        temporary.replace(self._path)
        print(f"{self._stage} / {name}: {found}", flush=True)

    def attempt(self, name: str, work: Callable[[], Any]) -> None:
        """Keep what `work` gives, or its error with the last lines of its trace: the stage goes on."""
        try:
            found = work()
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"[:500], "at": traceback.format_exc().splitlines()[-8:]}
        self(name, found)
        gc.collect()


def device_name() -> str:
    """The device of all stages: "cuda", or "cpu" in a dry run without a GPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def wait() -> None:
    """Until the GPU has done all that was asked of it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], Any], least: float = 0.2) -> float:
    """Median seconds of one call over at least `least` seconds, by the GPU's own clock where there is one."""
    import torch

    work()
    wait()
    started = time.perf_counter()
    work()
    wait()
    count = 2 if DRY else max(3, min(300, round(least / max(1e-6, time.perf_counter() - started))))
    if not torch.cuda.is_available():
        times = [time.perf_counter()]
        for _ in range(count):
            work()
            times.append(time.perf_counter())
        return statistics.median(b - a for a, b in pairwise(times))
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    wait()
    return statistics.median(a.elapsed_time(b) / 1e3 for a, b in pairwise(marks))
