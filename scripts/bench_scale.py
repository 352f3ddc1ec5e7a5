"""How the reading commands bear a large sweep: python scripts/bench.py scale [--runs 1000 10000] [--keep FOLDER].

Makes folders of finished runs (a real plan, real records, losses of a planted law) outside the repository and
times `testbed status` and `testbed points` on them, each in a process of its own: seconds by the clock, CPU
seconds, and the largest resident memory that the system saw. Writes configs/measured/scale.md and .json.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
EVALS = 50
WIDTHS = 40
STATUS_SECONDS, POINTS_SECONDS, MEGABYTES = 3.0, 10.0, 500.0
CONFIG = """
name = "scale"

[data]
source = "synthetic:zipf"
seq_len = 32
val_windows = 64

[model]
depth = 2
head_size = 8

[train]
batch_tokens = 256
warmup_steps = 5
trunk_evals = 22
branch_evals = 5
pack = "none"

[grid]
widths = {widths}
tokens = [102_400, 204_800, 409_600, 819_200]
init_seeds = {seeds}
"""


@dataclass(frozen=True)
class Timing:
    """One command on a folder of so many runs: every repeat's seconds and CPU seconds, and the most memory."""

    command: str
    runs: int
    seconds: list[float]
    cpu_seconds: list[float]
    megabytes: float


def make_sweep(path: Path, runs: int) -> None:
    """A sweep's folder with `runs` finished runs of 50 evaluations each (a multiple of 40)."""
    from testbed.config import check_config
    from testbed.config.loading import tomllib
    from testbed.training.data import open_source
    from testbed.training.store import SweepFolder
    from testbed.training.sweep import plan

    seeds = list(range(runs // WIDTHS))
    text = CONFIG.format(widths=[8 * (i + 1) for i in range(WIDTHS)], seeds=seeds)
    config = check_config(tomllib.loads(text), "scale")
    folder = SweepFolder.create(path, config, plan(config, open_source(config.data).facts).runs)
    rng = np.random.default_rng(0)
    for spec in folder.specs:
        _finish(folder.run(spec).path, spec, rng)


def _finish(path: Path, spec: Any, rng: np.random.Generator) -> None:
    """What a finished run leaves behind, without waiting for the disk at every line."""
    from testbed.records import Done, Provenance, as_json
    from testbed.training.store.session import Session

    path.mkdir(parents=True)
    at = "2026-01-01T00:00:00+00:00"
    provenance = Provenance(
        started=at,
        versions={"testbed": "0.1.0"},
        python=platform.python_version(),
        platform=platform.platform(),
        device="none",
        cpu_capability="none",
        threads=1,
        deterministic=True,
        commit=None,
        data_fingerprint=spec.data.fingerprint,
    )
    done = Done(finished=at, steps=spec.steps, tokens=spec.tokens, flops=spec.flops, seconds=1.0)
    evaluations = list(_evaluations(spec, rng))
    assert len(evaluations) == EVALS
    (path / "spec.json").write_text(json.dumps(as_json(spec), indent=2) + "\n")
    (path / "provenance.jsonl").write_text(json.dumps(as_json(provenance)) + "\n")
    (path / "evals.jsonl").write_text("".join(line + "\n" for line in evaluations))
    session = Session(
        owner="0" * 32, machine="0", host="host", pid=1, started=at, steps=spec.steps, reached=spec.steps, released=True
    )
    (path / "sessions").mkdir()
    (path / "sessions" / "0001.json").write_text(json.dumps(as_json(session), indent=2) + "\n")
    (path / "lock").touch()
    (path / "done.json").write_text(json.dumps(as_json(done), indent=2) + "\n")


def _evaluations(spec: Any, rng: np.random.Generator) -> Iterator[str]:
    """The lines of evals.jsonl: each evaluation of the plan, on a law with 0.3 % of noise."""
    before = 0
    for horizon in spec.horizons:
        trunk = [step for step in spec.trunk_evals if before < step <= horizon.branch_step]
        branch = horizon.eval_steps((EVALS - len(spec.trunk_evals)) // len(spec.horizons) - 1)
        yield from (_line(spec, None, step, "stable", rng) for step in trunk)
        for step in branch:
            yield _line(spec, horizon.tokens, step, "annealed" if step == horizon.steps else "decaying", rng)
        before = horizon.branch_step


def _line(spec: Any, horizon: int | None, step: int, phase: str, rng: np.random.Generator) -> str:
    from testbed.records import Eval

    tokens, n = step * spec.batch_tokens, spec.counts.n_params_non_embedding
    loss = (1.2 + 30 * n**-0.35 + 900 * tokens**-0.45) * math.exp(0.003 * rng.normal())
    evaluation = Eval(
        phase=phase,  # type: ignore[arg-type]
        horizon=horizon,
        step=step,
        tokens=tokens,
        flops=tokens * spec.counts.flops_per_token,
        loss=loss,
        bpb=None,
        train_loss=loss * 1.01,
        lr=spec.lr,
        seconds=round(0.001 * step, 3),
    )
    return evaluation.model_dump_json()


def timed(arguments: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and the most resident megabytes of one testbed command; its failure is ours."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "testbed", *arguments]
    with tempfile.TemporaryFile() as heard:
        process = subprocess.Popen(command, cwd=ROOT, stdout=heard, stderr=heard)
        _, code, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode:
            heard.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {heard.read().decode()[-2000:]}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def measure(folder: Path, runs: int, repeats: int) -> list[Timing]:
    """`status` and `points` on one folder."""
    commands = {
        "status": ["status", str(folder)],
        "points": ["points", str(folder), "-o", str(folder / "points.csv")],
    }
    timings = []
    for name, arguments in commands.items():
        taken = [timed(arguments) for _ in range(repeats)]
        seconds, cpu, megabytes = (list(values) for values in zip(*taken, strict=True))
        timings.append(Timing(name, runs, seconds, cpu, max(megabytes)))
        print(f"{name} of {runs:,} runs: {median(seconds):.2f} s, {max(megabytes):.0f} MB", flush=True)
    return timings


def table(timings: list[Timing]) -> str:
    """The measurements as Markdown; CPU seconds, which other work on the machine moves less, are held against what is asked."""
    least, most = min(t.runs for t in timings), max(t.runs for t in timings)
    lines = [
        "| command | runs | CPU seconds | by the clock | memory | seconds a run, against the smallest folder | asked | met |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for t in timings:
        seconds = median(t.cpu_seconds)
        first = next(s for s in timings if s.command == t.command and s.runs == least)
        growth = seconds / t.runs / (median(first.cpu_seconds) / least)
        limit = STATUS_SECONDS if t.command == "status" else POINTS_SECONDS
        asked, met = "-", "-"
        if t.runs == most and most >= 10_000:
            asked = f"{limit:g} s, {MEGABYTES:g} MB, <= 1"
            met = "yes" if seconds <= limit and t.megabytes <= MEGABYTES and growth <= 1 else "NO"
        cells = (t.command, f"{t.runs:,}", f"{seconds:.2f}", f"{median(t.seconds):.2f} s", f"{t.megabytes:.0f} MB")
        lines.append(f"| {' | '.join((*cells, f'{growth:.2f}', asked, met))} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    from testbed.files import write_json, write_text

    parser = argparse.ArgumentParser(prog="bench.py scale", description=__doc__)
    parser.add_argument("--runs", nargs="*", type=int, default=[1000, 10_000], help="runs of each folder")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, default=None, help="make the folders here, and use those that are there")
    parser.add_argument("--out", type=Path, default=ROOT / "configs" / "measured" / "scale", help="without its suffix")
    chosen = parser.parse_args(arguments)
    if any(runs < WIDTHS or runs % WIDTHS for runs in chosen.runs):
        parser.error(f"--runs: multiples of {WIDTHS}")
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory() as temporary:
        place = chosen.keep or Path(temporary)
        os.environ.setdefault("TESTBED_CACHE", temporary)
        for runs in chosen.runs:
            folder = place / f"scale-{runs}"
            if not folder.exists():  # in a process of its own: what it holds would count as its children's memory
                maker = multiprocessing.get_context("spawn").Process(target=make_sweep, args=(folder, runs))
                maker.start()
                maker.join()
            timings += measure(folder, runs, chosen.repeats)
    when = datetime.now(UTC).date().isoformat()
    head = (
        f"# Reading a large sweep\n\n{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{when}, load {os.getloadavg()[0]:.1f} when it ended. Runs are finished and have {EVALS} evaluations each; a "
        f"figure is the median of {chosen.repeats} processes, their start included, with the files in the system's "
        "cache. On an idle machine the clock shows the CPU's seconds; memory is the largest resident size "
        "(`python scripts/bench.py scale`).\n\n"
    )
    print(table(timings))
    write_text(chosen.out.with_suffix(".md"), head + table(timings) + "\n")
    write_json(chosen.out.with_suffix(".json"), {"date": when, "timings": [asdict(t) for t in timings]})


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
