"""How well the time that is left is told: python scripts/bench.py ledger [--config CONFIG] [--keep FOLDER].

Trains the grid of a study as a user does, asks its ledger every second how long it still takes, and holds the
answers against what it took. Writes configs/measured/ledger.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from testbed.config import load_config
from testbed.study import Study
from testbed.training.store.ledger import Ledger

ROOT = Path(__file__).parents[1]
BAR = 0.2


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "quick.toml")
    parser.add_argument("--out", type=Path, default=ROOT / "configs" / "measured", help="where the figures go")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        looks, seconds = watch(chosen.config, Path(folder) / "sweep")
    rows = [row(share, passed, left, seconds) for share, passed, left in looks if 0.1 <= share < 1]
    facts = {
        "config": chosen.config.name,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds, 1),
        "looks": len(rows),
        "worst_error_of_the_end": max(abs(r["error_of_end"]) for r in rows),
        "median_error_of_the_end": median(abs(r["error_of_end"]) for r in rows),
        "rows": rows,
    }
    (chosen.out / "ledger.json").write_text(json.dumps(facts, indent=1) + "\n")
    (chosen.out / "ledger.md").write_text(page(facts))
    print(page(facts))


def watch(config_path: Path, path: Path) -> tuple[list[tuple[float, float, float]], float]:
    """Share done, seconds since the first step and seconds left as told, look by look; and the seconds it took."""
    study = Study.create(load_config(config_path), path)
    workers = study.workers(study.grid)
    launcher = subprocess.Popen([sys.executable, "-m", "testbed", "train", str(path)], stdout=subprocess.DEVNULL)
    looks: list[tuple[float, float, float]] = []
    started = time.monotonic()
    while launcher.poll() is None:
        ledger = Ledger.of(study.folder, study.grid)
        if ledger.at_work:
            looks.append((ledger.share, time.monotonic() - started, ledger.seconds_left(workers)))
            last = time.monotonic()
        elif not looks:
            started = time.monotonic()
        time.sleep(1)
    assert launcher.returncode == 0
    return looks, last - started


def row(share: float, passed: float, left: float, seconds: float) -> dict[str, float]:
    """The answer beside the truth; the error of the end is relative to the whole time, that of the rest to the rest."""
    return {
        "share": round(share, 4),
        "passed": round(passed, 1),
        "left_told": round(left, 1),
        "left_true": round(seconds - passed, 1),
        "error_of_end": round((passed + left) / seconds - 1, 4),
    }


def page(facts: dict[str, Any]) -> str:
    lines = [
        "# The time that is left, as the ledger tells it",
        "",
        f"The grid of `{facts['config']}`, {facts['machine']}, {facts['date']}: it took {facts['seconds']:.0f} s. From a "
        f"tenth of the work on, the end was told {facts['looks']} times; relative to the whole time it was off by "
        f"{100 * facts['median_error_of_the_end']:.1f} % in the median and "
        f"{100 * facts['worst_error_of_the_end']:.1f} % at worst (bar: {100 * BAR:.0f} %). Made by "
        "`python scripts/bench.py ledger`.",
        "",
        "| share done | seconds passed | left, as told | left, in truth | error of the end |",
        "|---|---|---|---|---|",
    ]
    wanted = [0.1 * tenth for tenth in range(1, 10)]
    for share in wanted:
        at = min(facts["rows"], key=lambda r: abs(r["share"] - share))
        lines.append(
            f"| {at['share']:.2f} | {at['passed']:.0f} | {at['left_told']:.0f} | {at['left_true']:.0f} | "
            f"{100 * at['error_of_end']:+.1f} % |"
        )
    return "\n".join(lines) + "\n"
