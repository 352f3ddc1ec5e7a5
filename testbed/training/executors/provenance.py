"""Where a run's numbers come from: the software, the device and the commit that a run is started with."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from pathlib import Path

import torch

from testbed.records import Provenance, RunSpec
from testbed.training.store import now
from testbed.version import versions


def provenance(spec: RunSpec, device: torch.device) -> Provenance:
    """The record of this start of the run."""
    return Provenance(
        started=now(),
        versions=versions("torch", "numpy", "transformers"),
        python=platform.python_version(),
        platform=platform.platform(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        deterministic=spec.deterministic,
        commit=_commit(),
        data_fingerprint=spec.data.fingerprint,
    )


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


@lru_cache
def _commit() -> str | None:
    """The commit of the package's checkout, with "+changed" if files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10)
        if tracked.returncode != 0:
            return None
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", str(here)], capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + "+changed" * (changed.returncode != 0)
