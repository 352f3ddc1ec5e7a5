"""Repeat a whole study with other seeds, and keep how its forecasts fared: python scripts/repeat_study.py CONFIG.

Every repeat trains its own grid and target, from other weights and in another order of the data. What is
finished is not repeated, so the script may be stopped and started again. Three files are kept under --table:
NAME.csv (a row a repeat), NAME.points.csv (the annealed losses of all of them) and NAME.md (the summary).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import pandas as pd

import testbed
from testbed.files import write_text
from testbed.points import write_table


def main() -> None:
    options = _parse()
    stem = options.table / options.config.stem
    rows, points = [], []
    for repeat in range(options.times):
        study = testbed.Study.create(_with_seeds(options.config, repeat), options.out / f"{repeat:02d}")
        rows.append({"repeat": repeat, **_run(study)})
        annealed = study.points().query("phase == 'annealed'")
        points.append(annealed.assign(run=f"{repeat:02d}/" + annealed["run"]))
        table = pd.DataFrame(rows)
        write_table(table, stem.with_suffix(".csv"))
        write_table(pd.concat(points), stem.with_suffix(".points.csv"))
        write_text(stem.with_suffix(".md"), _summary(options.config, table))
        print(table.tail(1)[["repeat", "predicted", "observed", "error", "half_width", "hit", "minutes"]].to_string())
    print(_summary(options.config, table))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="the study, such as configs/quick.toml")
    parser.add_argument("--times", type=int, default=10, help="how many repeats (10)")
    parser.add_argument("--out", type=Path, help="where the studies' folders go (runs/repeats/NAME)")
    parser.add_argument("--table", type=Path, default=Path("configs/measured"), help="where the tables are kept")
    options = parser.parse_args()
    options.out = options.out or Path("runs/repeats") / options.config.stem
    return options


def _with_seeds(path: Path, repeat: int) -> testbed.Config:
    """The study with as many seeds as it has, all of them other ones; repeat 0 is the study itself."""
    config = testbed.load_config(path)
    if config.target is None:
        raise SystemExit(f"{path}: no [target] to forecast; add its width and tokens")
    seeds = {"grid.init_seeds": config.grid.init_seeds, "target.init_seeds": config.target.init_seeds}
    if config.grid.data_seeds != "own":
        seeds["grid.data_seeds"] = config.grid.data_seeds
    changes = {key: [seed + 10 * repeat for seed in values] for key, values in seeds.items()}
    return testbed.load_config(path, [f"{key}={value}" for key, value in changes.items()])


def _run(study: testbed.Study) -> dict[str, object]:
    """The whole loop, and its outcome as one row; minutes are those of the first, uninterrupted pass."""
    clock = study.folder.path / "minutes.json"
    started, fresh = time.monotonic(), not any(study.folder.run(spec).evals() for spec in study.grid)
    with testbed.progress(study, "grid", title=f"{study.folder.path}: grid") as watcher:
        study.train("grid", watcher)
    forecast = study.seal()
    with testbed.progress(study, "target", title=f"{study.folder.path}: target") as watcher:
        study.train("target", watcher)
    verdict = study.folder.verdict() or study.judge()
    if fresh:
        write_text(clock, json.dumps((time.monotonic() - started) / 60))
    row: dict[str, object] = {
        "predicted": forecast.predicted,
        "low": forecast.interval.low,
        "high": forecast.interval.high,
        "observed": verdict.observed,
        "error": verdict.error,
        "half_width": (forecast.interval.high / forecast.interval.low) ** 0.5 - 1,
        "hit": verdict.hit,
        "z": verdict.z,
        **{f"error_{name}": error for name, error in (verdict.law_errors | verdict.baseline_errors).items()},
        "sd_trunks": forecast.sd_trunks,
        "sd_seeds": forecast.sd_seeds,
        "sd_laws": forecast.sd_laws,
    }
    if forecast.entropy is not None:
        row |= {
            "E_low": forecast.entropy.interval.low,
            "E_high": forecast.entropy.interval.high,
            "E_identified": forecast.entropy.identified,
            "E_true": verdict.true_entropy,
            "E_held": verdict.entropy_held,
        }
    return row | {"minutes": json.loads(clock.read_text()) if clock.exists() else None}


def _summary(config: Path, table: pd.DataFrame) -> str:
    errors = [column for column in table if str(column).startswith("error")]
    lines = [
        f"# {config.name}, repeated {len(table)} times with other seeds",
        "",
        f"testbed {testbed.__version__}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}.",
        "",
        f"- median absolute error of the forecast: {100 * table['error'].abs().median():.2f} % "
        f"(mean error {100 * table['error'].mean():+.2f} %, worst {100 * table['error'].abs().max():.2f} %)",
        f"- the 90 % interval held the outcome {int(table['hit'].sum())} times of {len(table)}",
        f"- its half-width: median {100 * table['half_width'].median():.2f} %, widest {100 * table['half_width'].max():.2f} %",
    ]
    if "E_true" in table and table["E_true"].notna().any():
        told, held = table["E_identified"].astype(bool), table["E_held"].astype(bool)
        lines += [
            f"- true entropy {table['E_true'].iloc[0]:.4f} nats/token: E was called identified {told.sum()} times, held then "
            f"{(told & held).sum()} times; in the interval {held.sum()} times of {len(table)}"
        ]
    if table["minutes"].notna().any():
        lines.append(f"- minutes for the whole loop: median {table['minutes'].median():.1f}")
    lines += ["", "| prediction | median absolute error | mean error |", "|---|---|---|"]
    for column in errors:
        name = str(column).removeprefix("error").removeprefix("_") or "the sealed forecast"
        lines.append(f"| {name} | {100 * table[column].abs().median():.2f} % | {100 * table[column].mean():+.2f} % |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
