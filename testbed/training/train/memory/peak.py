"""Peak memory of a piece of work, counted by the device's allocator or, on a CPU, by the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from testbed.training.train import idle

_PROCESS = Path("/proc/self")
_HELD = re.compile(r"VmRSS:\s*(\d+) kB")
_MOST = re.compile(r"VmHWM:\s*(\d+) kB")

T = TypeVar("T")


def give_back() -> bool:
    """Let go of idle learners and of what allocators keep for a next time: it may be in the wrong pieces, or another's turn.

    Whether memory of a GPU that was in use is free now.
    """
    held = torch.cuda.memory_allocated()
    idle.let_go()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    return torch.cuda.memory_allocated() < held


def peak(work: Callable[[], T], device: torch.device) -> tuple[T, int | None]:
    """The result of `work`, and its peak memory in bytes beyond what was held before; None where it is not counted."""
    give_back()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return work(), torch.cuda.max_memory_allocated(device) - before
    held = _counted(_HELD) if _forgotten() else None
    result, most = work(), _counted(_MOST)
    return result, None if held is None or most is None else max(0, most - held)


def _forgotten() -> bool:
    """Reset the peak that Linux records for this process; False where it cannot."""
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _counted(line: re.Pattern[str]) -> int | None:
    with contextlib.suppress(OSError):
        found = line.search((_PROCESS / "status").read_text())
        return None if found is None else 1024 * int(found[1])
    return None
