"""Chooses the engine of every run (how a batch goes through its device), where the configuration leaves it open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from testbed.config import Train
from testbed.errors import ConfigError
from testbed.records import RunSpec
from testbed.training.data import TokenSource
from testbed.training.sweep import Plan, same_kind
from testbed.training.train import Choice, available_bytes, choose_passes, compiling_pays

_COMPILERS = {  # what it is called, the variable that names one, usual names
    "cpu": ("C++ compiler", "CXX", "g++", "clang++", "c++"),
    "cuda": ("C compiler", "CC", "gcc", "clang", "cc"),  # Triton's
}


@dataclass(frozen=True)
class Engines:
    """A plan with its engines settled, and the choice that was made for each kind of run."""

    plan: Plan
    choices: tuple[Choice, ...]

    def sentences(self) -> list[str]:
        """One sentence for each kind of run whose batch does not go through the device in one pass, or does not fit at all."""
        return list(dict.fromkeys(filter(None, (choice.sentence() for choice in self.choices))))

    def fitting(self) -> Plan:
        """The plan; raises ConfigError where a run does not fit its device."""
        if not all(choice.fits for choice in self.choices):
            raise ConfigError("; ".join(choice.sentence() for choice in self.choices if not choice.fits))
        return self.plan


def choose_engines(
    plan: Plan, train: Train, device: torch.device, workers: int, source: Callable[[RunSpec], TokenSource] | None = None
) -> Engines:
    """Settle the micro-batches, recomputation and shards of every run for `device`, which `workers` processes share.

    All runs of one kind get the same engine. Where a GPU's memory is short, it is measured, if `source` gives the data.
    """
    kinds = [kind for role in (plan.grid, plan.target) for kind in same_kind(role)]
    choices = [
        choose_passes(
            kind[0],
            train,
            device,
            available_bytes(device, sharers(device, workers, kind[0])),
            source and source(kind[0]),
        )
        for kind in kinds
    ]
    chosen = {
        spec.run_id: choice.spec.engine.model_copy(update={"compile": _compiles(kind, train, device)})
        for kind, choice in zip(kinds, choices, strict=True)
        for spec in kind
    }
    return Engines(plan.trained_by([chosen[spec.run_id] for spec in plan.runs]), tuple(choices))


def _compiles(kind: Sequence[RunSpec], train: Train, device: torch.device) -> bool:
    """Whether unpacked runs of this kind should be compiled.

    Raises:
        ConfigError: They have to be, and there is no compiler.
    """
    if train.compile is True and not _has_compiler(device):
        raise ConfigError(
            f"train.compile: found true, but there is no {_COMPILERS[device.type][0]} on this machine, with which torch.compile "
            "makes its kernels; install one (for example gcc), or set it to auto"
        )
    if train.compile != "auto":
        return train.compile
    return (
        _has_compiler(device)
        and device.type == "cuda"
        and kind[0].engine.processes == 1
        and compiling_pays(sum(spec.flops for spec in kind))
    )


def _has_compiler(device: torch.device) -> bool:
    """Whether this machine has what torch.compile calls: the compiler that a variable names, or one of the usual names."""
    _, variable, *usual = _COMPILERS[device.type]
    return any(shutil.which(name) for name in filter(None, (os.environ.get(variable), *usual)))


def processes(specs: Sequence[RunSpec]) -> int:
    """Cores or GPUs that a worker of these runs needs: as many as the largest of them."""
    return max((spec.engine.processes for spec in specs), default=1)


def sharers(device: torch.device, workers: int, spec: RunSpec | None = None) -> int:
    """Processes that share the memory of one device: all workers on a CPU, their share of the workers on a GPU."""
    if device.type == "cpu":
        return max(workers, spec.engine.processes if spec else 1)
    return -(-workers // torch.cuda.device_count())
