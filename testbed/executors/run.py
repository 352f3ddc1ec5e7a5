"""Running one spec in its folder: what every executor does, whatever started the process."""

from __future__ import annotations

import platform
import subprocess
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from testbed.data import TokenSource
from testbed.errors import RunFailed, SealError, TestbedError
from testbed.records import Eval, Provenance, RunSpec
from testbed.store import RunFolder, SweepFolder, now
from testbed.train import Finished, Interruptions, Paused, Progress, train

Ending = Literal["done", "failed", "paused"]


@dataclass(frozen=True)
class Outcome:
    """How one run ended; `reason` says why where it failed."""

    run_id: str
    ending: Ending
    reason: str = ""


def run_one(
    sweep: SweepFolder,
    spec: RunSpec,
    source: TokenSource,
    device: torch.device,
    interruptions: Interruptions,
    report: Callable[[Eval | Progress], None],
) -> Outcome:
    """Train one run of the sweep to its end, from its last checkpoint if it has one; never raises for the run's own fault."""
    folder = sweep.run(spec)
    with folder.owned():
        if folder.state() == "done":
            return Outcome(spec.run_id, "done")
        try:
            _check_start(sweep, spec, source)
            folder.begin(_provenance(spec, device))
            _train_logged(folder, source, device, interruptions, report)
        except Paused:
            return Outcome(spec.run_id, "paused")
        except Exception as error:  # whatever it was, the sweep goes on and the reason is kept
            reason = str(error) if isinstance(error, TestbedError) else f"{type(error).__name__}: {error}"
            folder.fail(reason, traceback.format_exc())
            return Outcome(spec.run_id, "failed", reason)
    return Outcome(spec.run_id, "done")


def _check_start(sweep: SweepFolder, spec: RunSpec, source: TokenSource) -> None:
    if spec.role == "target" and spec.run_id not in sweep.forecast().target.runs:
        raise SealError(
            f"{spec.run_id}: the sealed forecast is about other runs; a target starts only after its forecast"
        )
    if source.facts.fingerprint != spec.data.fingerprint:
        raise RunFailed(
            f"{spec.data.source}: the tokens are not those of the plan (fingerprint {source.facts.fingerprint[:12]}, planned "
            f"{spec.data.fingerprint[:12]}); restore the data, or start another sweep"
        )


def _train_logged(
    folder: RunFolder,
    source: TokenSource,
    device: torch.device,
    interruptions: Interruptions,
    report: Callable[[Eval | Progress], None],
) -> None:
    recorded = frozenset(e.key for e in folder.evals())
    for event in train(folder.spec, source, folder.checkpoints, device, recorded, interruptions):
        if isinstance(event, Finished):
            folder.finish(event.steps, event.tokens, event.seconds)
            continue
        if isinstance(event, Eval):
            folder.log(event)
        report(event)


def _provenance(spec: RunSpec, device: torch.device) -> Provenance:
    packages = ("testbed", "torch", "numpy", "transformers")
    return Provenance(
        started=now(),
        versions={name: version(name) for name in packages},
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
