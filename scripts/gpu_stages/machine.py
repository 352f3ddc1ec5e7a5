"""The machine: versions, and what a matrix product, a copy, a node of a CUDA graph and a checkpoint take."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from scripts.gpu_stages.findings import DRY, Findings, device_name, timed
from testbed.training.train.checkpoints.checkpoint import Cursor, read_checkpoint, save_checkpoint

PACKAGES = ("torch", "triton", "transformers", "accelerate", "numpy", "pydantic", "safetensors")
QUERY = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.max.sm,power.limit,compute_mode,mig.mode.current"


def machine(find: Findings) -> None:
    """Versions and speeds."""
    find("versions", {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}})
    find("cores", os.cpu_count())
    find.attempt("nvidia-smi", _smi)
    find.attempt("matrix product, bf16", product)
    find.attempt("copy", copy)
    if device_name() == "cuda":
        find.attempt("graph", node)
    find.attempt("checkpoint", lambda: checkpoint(find.out))


def product() -> str:
    """FLOP/s of a large square product."""
    side = 512 if DRY else 8192
    a, b = (torch.randn(side, side, device=device_name(), dtype=torch.bfloat16) for _ in range(2))
    return f"{2 * side**3 / timed(lambda: a @ b) / 1e12:.3g} TFLOP/s"


def copy() -> str:
    """Bytes read and written a second by a copy in the device's memory."""
    source = torch.ones(1 << (20 if DRY else 30), dtype=torch.uint8, device=device_name())
    target = torch.empty_like(source)
    return f"{2 * source.nbytes / timed(lambda: target.copy_(source)) / 1e12:.3g} TB/s"


def node() -> str:
    """Microseconds of a node of a CUDA graph that does next to nothing."""
    x, graph = torch.zeros(8, device="cuda"), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(1000):
            x.add_(1)
    return f"{1e3 * timed(graph.replay):.2f} us a node"


def checkpoint(out: Path) -> str:
    """Seconds to save and read a state of 1 GB, on the disk of `out`."""
    state = {f"weight/{i}": torch.randn(1 << (16 if DRY else 24), device=device_name()) for i in range(16)}
    size = sum(tensor.nbytes for tensor in state.values()) / 1e9
    seconds = []
    with tempfile.TemporaryDirectory(dir=out) as folder:
        newest, previous = Path(folder, "newest.safetensors"), Path(folder, "previous.safetensors")
        for _ in range(2):
            started = time.perf_counter()
            save_checkpoint(newest, state, Cursor(run_ids="check"), previous)
            seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        read_checkpoint(newest, "check")
        read = time.perf_counter() - started
    return f"{size:.2f} GB saved in {seconds[0]:.1f} and {seconds[1]:.1f} s, read in {read:.1f} s"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _smi() -> str:
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
