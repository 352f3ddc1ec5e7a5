"""Running out of memory while a run is trained: recognising it, retrying, and the message with the numbers.

Memory is estimated before anything starts; this is for devices that others use too, and for estimates that
were too low.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from testbed.errors import RunFailed
from testbed.records import RunSpec
from testbed.training.train.memory.footprint import Memory, estimate
from testbed.training.train.memory.peak import give_back
from testbed.units import show_bytes

_SIGNS = ("can't allocate memory", "out of memory", "not enough memory", "bad_alloc", "ALLOC_FAILED")
_LIBRARY = "could not create a primitive"  # oneDNN's message on a CPU; it remembers the failure for good
_ASKED = re.compile(r"allocate ([\d.]+) ?(bytes|KiB|MiB|GiB)", re.IGNORECASE)
_UNITS = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}

T = TypeVar("T")


def is_shortage(error: BaseException) -> bool:
    """Whether memory has run out, on any device."""
    signed = isinstance(error, RuntimeError) and any(sign in str(error) for sign in (*_SIGNS, _LIBRARY))
    return signed or isinstance(error, (MemoryError, torch.OutOfMemoryError))


def with_room(
    work: Callable[[], T], make_room: Callable[[str], None], unchanged: Callable[[], bool] = lambda: True
) -> T:
    """The result of `work`, which is repeated after `make_room` whenever memory runs out.

    Before that it is repeated once as it is, if idle learners or garbage held memory that is free now and
    `unchanged` says that the failed try changed nothing. `make_room` receives the size of the failed
    allocation (if known) and raises when nothing more can be freed.
    """
    again = True
    while True:
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            asked = _asked(str(error))
            if _LIBRARY in str(error):  # once it could not create a primitive it never tries again
                torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        freed = give_back()  # after the error, and with it what the work had allocated, is gone
        if freed and again and unchanged():
            again = False
        else:
            make_room(asked)


class NoRoom(RunFailed):
    """Memory ran out, and nothing can be made smaller."""


def no_room(what: str, asked: str, spec: RunSpec, device: torch.device) -> NoRoom:
    """The error for a run whose smallest pass (`what`) does not fit: what was needed and what was free."""
    free, total = room(device)
    remedy = "train fewer runs side by side (train.pack), or " if (spec.engine.pack or 1) > 1 else ""
    return NoRoom(
        f"out of memory: {what} does not fit on the {device.type}: {asked} was asked for when {show_bytes(free)} of "
        f"{show_bytes(total)} were free; {_estimated(spec)}; {remedy}give it a device with more memory, share it among "
        "several GPUs (train.processes), or lower train.micro_rows or data.seq_len"
    )


def room(device: torch.device) -> tuple[int, int]:
    """Bytes of the device's memory: free, and all that this process may have."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)
    page = os.sysconf("SC_PAGE_SIZE")
    free, total = page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    import resource  # absent on Windows, where everything but training works

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        held = page * int(Path("/proc/self/statm").read_text().split()[0])
        free, total = max(0, min(free, limit - held)), min(total, limit)
    return free, total


def _estimated(spec: RunSpec) -> str:
    one = spec.model_copy(update={"engine": spec.engine.model_copy(update={"micro_rows": 1})})
    try:
        needed: Memory = estimate(one)
    except (MemoryError, RuntimeError):
        return "too little memory to estimate what the run needs"
    held = needed.weights + needed.gradients + needed.moments
    return (
        f"by its shape the run takes {show_bytes(needed.bytes)} with one window a pass ({show_bytes(held)} of them "
        "weights, gradients and moments)"
    )


def _asked(message: str) -> str:
    found = _ASKED.search(message)
    if found is None:
        return f"more ({message.splitlines()[0] if message else 'no amount is known'})"
    return show_bytes(round(float(found[1]) * _UNITS[found[2].lower()]))
