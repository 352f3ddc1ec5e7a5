"""transformers' Trainer at its best beside ours, one after the other, so that each has the whole memory."""

from __future__ import annotations

from scripts.gpu_stages.findings import DRY, Findings, device_name
from scripts.training_bench.crew import Entry, Outcome, Track
from scripts.training_bench.ours import ours
from scripts.training_bench.step import SIZES
from scripts.training_bench.trainer import trainer_entry
from testbed.records import Engine

CONTENDERS = {"10k": Engine(pack=128), "10M": Engine(compile=True), "124M": Engine(compile=True)}


def against(find: Findings) -> None:
    """Tokens/s and memory of both, at each size."""
    track = Track(device_name(), 3, 0.3)
    for name, engine in {"10k": Engine(pack=2)}.items() if DRY else CONTENDERS.items():
        find.attempt(name, lambda name=name, engine=engine: _race(track, name, engine))


def _race(track: Track, name: str, engine: Engine) -> dict[str, str]:
    size = SIZES[name][0]
    entries = {
        "ours": Entry(ours, (size, track.device, engine, False), size.batch_tokens * (engine.pack or 1)),
        "Trainer": trainer_entry(size, track.device, best=True),
    }
    return {each: _words(outcome) for each, outcome in track.race(entries, together=False).items()}


def _words(outcome: Outcome) -> str:
    if outcome.error:
        return outcome.error
    memory = f", {outcome.memory / 1e9:.1f} GB" if outcome.memory else ""
    return f"{outcome.tokens_per_second:,.0f} tokens/s{memory}"
