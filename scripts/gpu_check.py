"""Check in eight minutes what a GPU can tell about testbed: python scripts/gpu_check.py OUT [--minutes 8] [--only STAGE ...].

    machine    40 s   versions; speed of a matrix product, a copy, a node of a graph, of saving and reading 1 GB
    learners   75 s   each kind of learner: captured or not, its loss beside eager steps, its memory beside the estimate
    speed     150 s   tokens/s, MFU, memory and seconds to the first step at 10k to 124M parameters, eager and compiled
    tests     110 s   the tests marked `gpu` that are not `slow`
    study     120 s   a whole study, its losses beside those that a CPU gave for the same seeds
    passes     60 s   the micro-batches chosen for configs/gpt2_124m.toml, without its corpus
    against   150 s   transformers' Trainer at its best beside ours at 10k, 10M and 124M parameters

The seconds are the most that a stage may take; it is a process of its own and is ended with all that it started. The first
five are the eight minutes. `--minutes` is for all stages together. Findings are in OUT/results.json as soon
as they are made, so a stage that fails or hangs costs its time and nothing else. OUT also gets log.txt (what stages
printed), profile.txt (kernels of a 124M step), tests.xml and study.points.csv.

Run it from a clone with the packages of pyproject.toml. Exit status: 0 when every stage came to its end, 2 without a GPU or
for wrong arguments, 3 when a stage failed or ran out of time. GPU_CHECK_DRY=1 goes through the stages with small shapes,
on a CPU where there is no GPU: it tries the script, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from scripts.gpu_stages.findings import DRY, Findings  # noqa: E402

STAGES: dict[
    str, tuple[str, float]
] = {  # the module of scripts.gpu_stages with a function of the stage's name, seconds
    "machine": ("machine", 40),
    "learners": ("learners", 75),
    "speed": ("speed", 150),
    "tests": ("product", 110),
    "study": ("product", 120),
    "passes": ("product", 60),
    "against": ("against", 150),
}
LEAST = 10.0  # seconds that are worth starting a stage
SLOWER = 4  # times as long as a stage may take in a dry run, on a CPU that others use too
FAILED = 3


def main(words: Sequence[str]) -> int:
    chosen = _parse(words)
    if not DRY and not _sees_gpu():
        print(
            "gpu_check: torch sees no CUDA GPU here; run it where there is one, or set GPU_CHECK_DRY=1 to try the script itself",
            file=sys.stderr,
        )
        return 2
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.stage:
        stage = getattr(importlib.import_module(f"scripts.gpu_stages.{STAGES[chosen.stage][0]}"), chosen.stage)
        stage(Findings(chosen.out, chosen.stage))
        return 0
    signal.signal(signal.SIGTERM, end)
    endings = run_stages(chosen.out, chosen.only, chosen.minutes)
    print((chosen.out / "results.json").read_text())
    return 0 if all(ending.startswith("done") for ending in endings.values()) else FAILED


def run_stages(out: Path, names: Sequence[str], minutes: float) -> dict[str, str]:
    """How each stage ended; one after the other, as long as there is time."""
    end = time.monotonic() + 60 * minutes
    endings, findings = {}, Findings(out, "stages")
    for name in names:
        seconds = min(STAGES[name][1] * (SLOWER if DRY else 1), end - time.monotonic() - 3)
        if seconds < LEAST:
            endings[name] = "no time left"
        else:
            command = [sys.executable, str(Path(__file__).resolve()), str(out), "--stage", name]
            endings[name] = run_boxed(command, out / "log.txt", name, seconds)
        findings(name, endings[name])
    return endings


def run_boxed(command: Sequence[str], log: Path, name: str, seconds: float) -> str:
    """How the command ended, which may take so many seconds: a process group, ended with all that it started."""
    started = time.monotonic()
    with log.open("a") as file:
        file.write(f"\n===== {name}, at most {seconds:.0f} s\n")
        file.flush()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT)
        try:
            status = process.wait(seconds)
            ending = "done" if status == 0 else f"failed with exit status {status}"
        except subprocess.TimeoutExpired:
            ending = "out of time"
        finally:  # also where this process itself is told to end
            _end_group(process)
    return f"{ending} after {time.monotonic() - started:.0f} of {seconds:.0f} s"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process group, first by asking."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        time.sleep(0.5)
    process.wait()


def end(*_: object) -> None:
    """What SIGTERM does: the stage ends too."""
    sys.exit(128 + signal.SIGTERM)


def _sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_check.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the folder for results.json and the other files")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all stages together (8)")
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=list(STAGES), metavar="STAGE")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)  # what each process is started with
    chosen = parser.parse_args(words)
    if not chosen.minutes > 0:
        parser.error(f"--minutes: found {chosen.minutes:g}; accepted: a number above 0")
    if chosen.out.exists() and not chosen.out.is_dir():
        parser.error(f"OUT: {chosen.out} is a file; accepted: a folder, which is made if it is not there")
    return chosen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
