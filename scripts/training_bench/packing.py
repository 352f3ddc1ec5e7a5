"""Runs side by side against one alone, and what only a GPU can show. See __init__.py."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from scripts.training_bench.crew import Entry, Track, context
from scripts.training_bench.ours import ours, settings, specs
from scripts.training_bench.sizes import ReadyTokens, Size
from scripts.training_bench.step import SIZES
from scripts.training_bench.table import NOT_YET, Row, judged, kept, paces
from scripts.training_bench.trainer import trainer_entry
from testbed.config import load_config
from testbed.records import Engine

PACKS = (1, 2, 3, 4, 8, 16)
GPU_PACKS = (8, 32, 128)
BATCH = 512
NOTE = (
    "Tokens/s of all runs together: K runs side by side in the packed engine against one alone by the family's own module. "
    "One K is taken for all widths of the quick study; the last row trains as many tokens at each of them."
)
GPU_NOTE = "Trainer is measured in the same run, compiled and in bf16."


def rows(track: Track, quick: Path) -> Iterator[Row]:
    """One head of size 16; then every shape of the quick study, and all of them together."""
    yield _packed(track, Size("10k, one head", 16, 3, 16, 256, 128, BATCH), 1.6)
    config = load_config(quick)
    widths = (*config.grid.widths, *([config.target.width] if config.target else []))
    depth, head, length = config.model.depth or 1, config.model.head_size, config.data.seq_len
    singles = [_packed(track, Size(f"quick {w}", w, depth, head, 256, length, BATCH), None) for w in widths]
    yield from singles
    yield _together(singles, 1.4)


def _packed(track: Track, size: Size, least: float | None) -> Row:
    deterministic = track.device == "cpu"
    entries = {"alone": Entry(ours, (size, track.device, Engine(), deterministic), size.batch_tokens)}
    for k in PACKS:
        entries[f"K = {k}"] = Entry(ours, (size, track.device, Engine(pack=k), deterministic), k * size.batch_tokens)
    outcomes = track.race(entries)
    return _row(size.words(), paces(outcomes), least, {"contenders": kept(outcomes)})


def _together(singles: Sequence[Row], least: float) -> Row:
    """The harmonic mean of the widths' tokens/s, for one K on all."""
    each = [row.figures["tokens_per_second"] for row in singles]
    names = [name for name in each[0] if all(name in pace for pace in each)]
    return _row("quick, all widths", {n: len(each) / sum(1 / pace[n] for pace in each) for n in names}, least, {})


def _row(what: str, pace: dict[str, float], least: float | None, figures: dict[str, Any]) -> Row:
    packed = {name: value for name, value in pace.items() if name != "alone"}
    best = max(packed, key=lambda name: packed[name], default=None)
    ratio = packed[best] / pace["alone"] if best and "alone" in pace else None
    cells = {"network": what} | {name: f"{value:,.0f}" for name, value in pace.items()}
    cells["best / alone"] = f"{ratio:.2f} ({best})" if ratio else "failed"
    return Row("packing", cells | judged(ratio, least), {"tokens_per_second": pace, "ratio": ratio, **figures})


def gpu_rows(track: Track) -> Iterator[Row]:
    """Packed grids of small networks against Trainer, the price of repeatability, and what a shape seen before costs."""
    for name in ("10k", "30k", "100k", "300k", "1M"):
        yield _grid(track, SIZES[name][0], 20.0)
    for name in ("1M", "10M", "124M"):
        yield _deterministic(track, SIZES[name][0])
    for engine in (Engine(compile=True), Engine(pack=8)):
        yield _seen_before(track, SIZES["1M"][0], engine)


def _grid(track: Track, size: Size, least: float) -> Row:
    what = f"{size.name}: a packed grid's tokens/s, times Trainer's"
    if track.device != "cuda":
        return Row("gpu", {"figure": what, "measured": NOT_YET, **judged(None, least, measured=False)})
    entries = {"Trainer": trainer_entry(size, "cuda", best=True)}
    for k in GPU_PACKS:
        entries[f"K = {k}"] = Entry(ours, (size, "cuda", Engine(pack=k), False), k * size.batch_tokens)
    outcomes = track.race(entries)
    pace = paces(outcomes)
    packed = {name: value for name, value in pace.items() if name != "Trainer"}
    best = max(packed, key=lambda name: packed[name], default=None)
    ratio = packed[best] / pace["Trainer"] if best and "Trainer" in pace else None
    shown = f"{ratio:.1f} ({best}: {packed[best]:,.0f} tokens/s)" if ratio and best else "failed"
    cells = {"figure": what, "measured": shown, **judged(ratio, least)}
    return Row("gpu", cells, {"tokens_per_second": pace, "ratio": ratio, "contenders": kept(outcomes)})


def _deterministic(track: Track, size: Size) -> Row:
    what = f"{size.name}: seconds of a step with deterministic kernels only, times those without"
    if track.device != "cuda":
        return Row("gpu", {"figure": what, "measured": NOT_YET, **judged(None, None)})
    flags = {"any kernels": False, "deterministic": True}
    entries = {
        name: Entry(ours, (size, "cuda", Engine(compile=True), flag), size.batch_tokens) for name, flag in flags.items()
    }
    outcomes = track.race(entries)
    errors = [f"failed: {outcome.error}" for outcome in outcomes.values() if outcome.error]
    ratio = None if errors else outcomes["deterministic"].step() / outcomes["any kernels"].step()
    shown = f"{ratio:.2f}" if ratio else errors[0]
    cells = {"figure": what, "measured": shown, **judged(None, None)}
    return Row("gpu", cells, {"ratio": ratio, "contenders": kept(outcomes)})


def _seen_before(track: Track, size: Size, engine: Engine) -> Row:
    kind = "packed runs" if engine.pack else "compiled runs"
    what = f"{size.name}, {kind}: graphs captured and kernels compiled for a shape seen before"
    if track.device != "cuda":
        return Row("gpu", {"figure": what, "measured": NOT_YET, "asked": "0", "met": "-"})
    with ProcessPoolExecutor(1, context("cuda")) as pool:
        first, again = pool.submit(made_anew, size, engine, "cuda").result()
    cells = {"figure": what, "measured": f"{sum(again)} (at first {sum(first)})", "asked": "0"}
    return Row("gpu", cells | {"met": "NO" if any(again) else "yes"}, {"first": first, "again": again})


def made_anew(size: Size, engine: Engine, device: str) -> list[tuple[int, int]]:
    """Graphs captured and functions compiled by each of two packs of one shape, trained one after the other in one process."""
    from torch._dynamo.utils import counters

    from testbed.training.train import train
    from testbed.training.train.device.cuda_graphs import captures

    source, made = ReadyTokens(size), [(0, 0)]
    both = specs(size, source, engine, packs=2, steps=200, **settings(device, False))
    count = engine.pack or 1
    for pack in (both[:count], both[count:]):
        with tempfile.TemporaryDirectory() as folder:
            folders = tuple(Path(folder) / spec.run_id for spec in pack)
            for path in folders:
                path.mkdir()
            for _ in train(pack, source, folders, torch.device(device)):
                pass
        made.append((captures.total(), counters["stats"]["unique_graphs"]))
    return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(made)]
