"""Training speed beside what one would pick instead: python scripts/bench.py train [--only SECTION ...] [--out FILE.md].

Sections: `step` (one run of each size against transformers' Trainer and a plain loop), `packing` (K runs
side by side against one alone), `sweep` (all annealed losses of a grid against one Trainer run for each),
`gpu` (what only a GPU can show). On a CPU times are CPU seconds of one thread; ratios are of times taken
in turns in the same run. Writes FILE.md and FILE.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from scripts.training_bench import packing, step, sweep
from scripts.training_bench.crew import Track
from scripts.training_bench.step import SIZES
from scripts.training_bench.table import Row, header, line, write

QUICK = Path(__file__).parents[2] / "configs" / "quick.toml"
SECTIONS = ("step", "packing", "sweep", "gpu")


def main(words: Sequence[str]) -> None:
    """Measure and write what the command line asks for."""
    chosen = _parse(words)
    track = Track(chosen.device, chosen.repeats, chosen.seconds)
    sections: dict[str, Callable[[], Iterator[Row]]] = {
        "step": lambda: step.rows(track, chosen.sizes),
        "packing": lambda: packing.rows(track, QUICK),
        "sweep": lambda: sweep.rows(track, chosen.config, chosen.full),
        "gpu": lambda: packing.gpu_rows(track),
    }
    notes = {
        "step": step.note(track),
        "packing": packing.NOTE,
        "sweep": sweep.note(chosen.full),
        "gpu": packing.GPU_NOTE,
    }
    head, rows = header(track), []
    for name in chosen.only:
        for row in sections[name]():
            rows.append(row)
            print(line([name, *row.cells.values()]), flush=True)
            if chosen.out is not None:
                write(chosen.out, head, notes, rows)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.py train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION")
    parser.add_argument("--sizes", default=",".join(SIZES), help=f"of {', '.join(SIZES)}, separated by commas")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each contender (5)")
    parser.add_argument("--seconds", type=float, default=0.4, help="least length of a round (0.4)")
    parser.add_argument(
        "--config", type=Path, default=QUICK, help="the study whose grid is the sweep (configs/quick.toml)"
    )
    parser.add_argument("--full", action="store_true", help="really train every point of the sweep by Trainer")
    parser.add_argument("--out", type=Path, help="where the Markdown goes; the JSON goes beside it")
    chosen = parser.parse_args(words)
    chosen.sizes = chosen.sizes.split(",")
    unknown = sorted(set(chosen.sizes) - set(SIZES))
    if unknown:
        parser.error(f"--sizes: found {', '.join(unknown)}; accepted: {', '.join(SIZES)}")
    if chosen.repeats < 1 or chosen.seconds <= 0:
        parser.error("--repeats is at least 1 and --seconds above 0")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error('--device: found "cuda", but torch sees no CUDA GPU; use "cpu" or "auto"')
    if chosen.device == "auto":
        chosen.device = "cuda" if torch.cuda.is_available() else "cpu"
    return chosen
