"""The product as users have it: its tests for a GPU, a whole study, and the micro-batches that a plan chooses."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import torch

from scripts.gpu_stages.findings import DRY, Findings, device_name
from scripts.training_bench.sizes import ReadyTokens
from scripts.training_bench.step import SIZES
from testbed.config import load_config
from testbed.training.sweep import plan
from testbed.training.train.memory.footprint import available_bytes
from testbed.training.train.memory.passes import choose_passes

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "configs" / "quick_synthetic.toml"
ON_A_CPU = ROOT / "configs" / "measured" / "quick_synthetic.points.csv"
KEY = ["role", "n_params_total", "init_seed", "tokens"]  # names one loss of the study
# tests that limit the memory of their process, or spoil it for captures where torch is not mended
ALONE = "cannot_be_captured or runs_out_on_a_gpu or idle_learners or within_the_memory"


def tests(find: Findings) -> None:
    """The tests marked `gpu` that are not `slow`, some of them in a process of their own."""
    files = [str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if "gpu" in path.read_text()]
    base = [sys.executable, "-m", "pytest", "-q", "-m", "gpu and not slow", "-p", "no:cacheprovider", "--tb", "short"]
    base += ["--timeout", "75"] if _installed("pytest_timeout") else []
    several = ["-n", "4"] if _installed("xdist") else []
    for name, more in {
        "together": [*several, "-k", f"not ({ALONE})", f"--junitxml={find.out / 'tests.xml'}"],
        "alone": ["-k", ALONE],
    }.items():
        ended = subprocess.run([*base, *more, *files], capture_output=True, text=True, cwd=ROOT)
        print(ended.stdout, ended.stderr, flush=True)
        lines = ended.stdout.splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        find(name, {"exit status": ended.returncode, "failed": failed, "last line": lines[-1] if lines else ""})


def study(find: Findings) -> None:
    """configs/quick_synthetic.toml from plan to page, and its losses beside those of a CPU for the same seeds."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "study")
        small = ["--set", "grid.tokens=[10240, 20480, 40960]", "--set", "target.tokens=81920"] if DRY else []
        started = time.perf_counter()
        command = ["run", str(STUDY), "--device", device_name(), "--out", str(folder), *small]
        ended = _testbed(*command)
        find("exit status", ended.returncode)
        find("seconds", round(time.perf_counter() - started))
        find("end", ended.stdout.splitlines()[-25:] + ended.stderr.splitlines()[-5:])
        for log in sorted((folder / "logs").glob("*.log")):
            text = log.read_text()
            print(text[-3000:], flush=True)
            counted = Counter({word: text.count(word) for word in ("step captured", "cannot be captured")})
            find(f"captures in {log.name}", dict(counted))
        find.attempt("beside the CPU", lambda: _beside_the_cpu(folder, find.out))


def _beside_the_cpu(folder: Path, out: Path) -> str:
    table = out / "study.points.csv"
    written = _testbed("points", str(folder), "-o", str(table))
    if written.returncode:
        raise RuntimeError(written.stderr)
    mine, theirs = pd.read_csv(table).query("phase == 'annealed'"), pd.read_csv(ON_A_CPU)
    theirs = theirs[theirs["run"].str.startswith("00/")]  # repeat 0 has the study's own seeds
    both = mine.merge(theirs, on=KEY, suffixes=("", "_cpu"))
    differ = (both["loss"] / both["loss_cpu"] - 1).abs()
    return f"{len(both)} losses, rms {100 * (differ**2).mean() ** 0.5:.3f} %, largest {100 * differ.max():.3f} %"


def passes(find: Findings) -> None:
    """What is chosen for the runs of configs/gpt2_124m.toml in the memory of this device; its tokens are made up."""
    size, device = SIZES["124M"][0], torch.device(device_name())
    source, config = ReadyTokens(size), load_config(ROOT / "configs" / "gpt2_124m.toml")
    spec = plan(config, source.facts).grid[0]

    def choose() -> str:
        started = time.perf_counter()
        choice = choose_passes(spec, config.train, device, available_bytes(device), source)
        seconds = time.perf_counter() - started
        return f"{choice.spec.engine} fits: {choice.fits}; {choice.sentence()}; chosen in {seconds:.0f} s"

    find.attempt("gpt2_124m", choose)


def _testbed(*words: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run([sys.executable, "-m", "testbed", *words], capture_output=True, text=True, cwd=ROOT)
    print(ended.stdout, ended.stderr, flush=True)
    return ended


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
