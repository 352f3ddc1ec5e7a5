"""Figures to hold the product to, measured here and now: python scripts/bench.py fit|design|train|scale|ledger [--only NAME ...].

`fit`: the fitter against exact optima, published results, other implementations and its own promises.
`design`: grids that are chosen against plain ones of as many FLOPs, simulated and really trained.
`train`: training speed against transformers' Trainer and a plain loop (bench.py train --help).
`scale`: what the reading commands take on sweeps of thousands of runs (bench.py scale --help).
`ledger`: how well a sweep tells the time that it still takes.
Times are CPU seconds of one thread, and ratios of times taken in the same run.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))


VERDICTS = {True: "yes", False: "NO", None: "-"}


def main() -> None:
    if sys.argv[1:2] == ["train"]:
        from scripts.training_bench import main as train

        return train(sys.argv[2:])
    if sys.argv[1:2] == ["scale"]:
        from scripts.bench_scale import main as scale

        return scale(sys.argv[2:])
    if sys.argv[1:2] == ["ledger"]:
        from scripts.bench_ledger import main as ledger

        return ledger(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "design", "train", "scale", "ledger"])
    parser.add_argument("--only", nargs="*", default=None, help="names of single measurements")
    parser.add_argument("--out", type=Path, default=None, help="write the table as Markdown too")
    chosen = parser.parse_args()

    from scripts import bench_design, bench_fit

    measurements = (bench_design if chosen.what == "design" else bench_fit).MEASUREMENTS
    unknown = sorted(set(chosen.only or ()) - set(measurements))
    if unknown:
        parser.error(f"no measurement {', '.join(unknown)}; accepted: {', '.join(measurements)}")
    lines = ["| bar | measured | asked | met |", "|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for name in chosen.only or measurements:
        for bar in measurements[name]():
            lines.append(f"| {bar.what} | {bar.measured} | {bar.asked} | {VERDICTS[bar.met]} |")
            print(lines[-1], flush=True)
    if chosen.out is not None:
        chosen.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
