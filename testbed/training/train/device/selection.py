"""The device of a run and the switches that make it repeatable."""

from __future__ import annotations

import os

import torch

from testbed.errors import ConfigError
from testbed.records import Precision


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is the first CUDA GPU where there is one, else the CPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError('execution.device: found "cuda", but torch sees no CUDA GPU; use "cpu" or "auto"')
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def set_precision(precision: Precision, device: torch.device) -> None:
    """How fp32 matrix products are rounded: exactly, or as TF32, which keeps 10 bits of each factor.

    ConfigError where tf32 is asked of a device that has none. bf16 is autocast's, and leaves the few
    products that stay in fp32 exact.
    """
    if precision == "tf32" and device.type != "cuda":
        raise ConfigError(
            f'train.precision: found "tf32", which only CUDA GPUs compute, and the device is {device.type}; '
            'use "fp32", or execution.device = "cuda"'
        )
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def make_repeatable(deterministic: bool) -> None:
    """Deterministic kernels on request, and nothing chosen by timing, nor by what other runs have met."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time and hides nothing here
    torch.backends.cudnn.benchmark = False
    torch.backends.mkldnn.enabled = True  # type: ignore[assignment]  # a run that lacks memory goes on without it
