"""The rows of the training bench, and what is made of them: JSON with every repeat, Markdown to read. See __init__.py."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from scripts.training_bench.crew import Outcome, Track
from testbed.files import write_json, write_text
from testbed.version import versions

NOT_YET = "not yet measured (needs a CUDA GPU)"
PEAKS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "H100 PCIe": 756e12, "A100": 312e12}  # datasheets, bf16 dense FLOP/s
TITLES = {
    "step": "One run",
    "packing": "Packing at 512 tokens a step",
    "sweep": "A sweep's annealed losses",
    "gpu": "On a GPU",
}


@dataclass(frozen=True)
class Row:
    """A line of a section's table; `figures` are the same in numbers, with the seconds of every repeat."""

    section: str
    cells: dict[str, str]
    figures: dict[str, Any] = field(default_factory=dict)


def judged(value: float | None, least: float | None, show: str = "{:.3g} x", measured: bool = True) -> dict[str, str]:
    """The last two cells of a row: what is asked of `value`, and whether that is met; what failed is not met."""
    if least is None:
        return {"asked": "-", "met": "-"}
    met = "yes" if value is not None and value >= least else "NO"
    return {"asked": ">= " + show.format(least), "met": met if measured else "-"}


def paces(outcomes: dict[str, Outcome]) -> dict[str, float]:
    """Tokens/s of every contender that did not fail."""
    return {name: outcome.tokens_per_second for name, outcome in outcomes.items() if outcome.error is None}


def kept(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """What the JSON keeps of each contender."""
    return {name: asdict(outcome) for name, outcome in outcomes.items()}


def header(track: Track) -> dict[str, Any]:
    """Where, when and by what the figures were taken."""
    device = track.device
    return {
        "device": device_name(device),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": 1 if device == "cpu" else torch.get_num_threads(),
        "precision": "bf16 autocast, fp32 weights" if device == "cuda" else "fp32",
        "clock": "wall seconds, device synchronised" if device == "cuda" else "CPU seconds of the process",
        "repeats": track.repeats,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": versions("torch", "transformers"),
    }


def device_name(device: str) -> str:
    """The GPU, or the processor by the name that the system gives it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{named}, {torch.backends.cpu.get_cpu_capability()}"


def datasheet_peak(name: str) -> float | None:
    """FLOP/s of a GPU's dense bf16 matrix products by its datasheet, None for one that is not known here."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def write(path: Path, head: dict[str, Any], notes: dict[str, str], rows: Sequence[Row]) -> None:
    """PATH (Markdown) and PATH with .json, each whole or not at all."""
    write_text(path, markdown(head, notes, rows))
    write_json(path.with_suffix(".json"), {"header": head, "rows": [asdict(row) for row in rows]})


def markdown(head: dict[str, Any], notes: dict[str, str], rows: Sequence[Row]) -> str:
    """The tables, a section each."""
    versions = ", ".join(f"{name} {number}" for name, number in head["versions"].items())
    lines = [
        "# Training speed",
        "",
        f"{head['device']}, {head['cores']} cores, {head['threads']} thread a process, {head['precision']}; {head['date']}, "
        f"load {head['load']} when it began; "
        f"Python {head['python']}, {versions}. Times are {head['clock']}; a figure is the median of {head['repeats']} rounds "
        "that contenders take in turns in one run (`python scripts/bench.py train`). Every repeat is in the .json beside it.",
    ]
    for section in dict.fromkeys(row.section for row in rows):
        table = [row.cells for row in rows if row.section == section]
        names = list(dict.fromkeys(name for cells in table for name in cells))
        names = [name for name in names if name not in ("asked", "met")] + ["asked", "met"]
        lines += ["", f"## {TITLES[section]}", "", notes[section], "", line(names), line(["---"] * len(names))]
        lines += [line([cells.get(name, "-") for name in names]) for cells in table]
    return "\n".join(lines) + "\n"


def line(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
