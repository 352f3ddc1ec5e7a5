"""One run of each size, ours against transformers' Trainer and a plain loop. See __init__.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.training_bench.crew import Entry, Outcome, Track
from scripts.training_bench.loop import plain_loop
from scripts.training_bench.ours import matmul, ours
from scripts.training_bench.sizes import Size
from scripts.training_bench.table import NOT_YET, Row, datasheet_peak, device_name, judged, kept, paces
from scripts.training_bench.trainer import trainer_entry
from testbed.records import Engine


@dataclass(frozen=True)
class Asked:
    """The least of one run: tokens/s as a multiple of Trainer's, share of the datasheet's FLOP/s, tokens/s."""

    ratio: float | None = None
    mfu: float | None = None
    tokens: float | None = None

    def cells(self, figures: dict[str, Any] | None) -> dict[str, str]:
        """What is asked and whether it is met; None for figures that were not measured at all."""
        found = figures or {"ratio": None, "mfu": None, "ours": None}
        bars = [
            judged(found["ratio"], self.ratio, "{:.2g} x Trainer"),
            judged(found["mfu"], self.mfu, "{:.0%} MFU"),
            judged(found["ours"], self.tokens, "{:,.0f} tokens/s"),
        ]
        bars = [bar for bar in bars if bar["asked"] != "-"] or bars[:1]
        met = ", ".join(bar["met"] for bar in bars) if figures is not None else "-"
        return {"asked": ", ".join(bar["asked"] for bar in bars), "met": met}


# shapes, what is asked of them on a CPU (None: they need a GPU), and on a GPU
SIZES: dict[str, tuple[Size, Asked | None, Asked]] = {
    "10k": (Size("10k", 16, 3, 16), Asked(1.3), Asked()),
    "30k": (Size("30k", 32, 3, 16), Asked(1.3), Asked()),
    "100k": (Size("100k", 48, 4, 16), Asked(1.3), Asked()),
    "300k": (Size("300k", 80, 4, 16), Asked(1.3), Asked()),
    "1M": (Size("1M", 128, 5, 32), Asked(1.3), Asked()),
    "3M": (Size("3M", 192, 7, 32), Asked(1.0), Asked()),
    "10M": (Size("10M", 320, 8, 64, 256, 256, 32_768), None, Asked(ratio=3.0)),
    "30M": (Size("30M", 512, 10, 64, 256, 512, 65_536), None, Asked()),
    "124M": (Size("124M", 768, 12, 64, 50_304, 1024, 32_768), None, Asked(mfu=0.40, tokens=400_000)),
    "350M": (Size("350M", 1024, 24, 64, 50_304, 1024, 32_768), None, Asked()),
    "1B": (Size("1B", 2048, 20, 128, 50_304, 1024, 16_384), None, Asked(mfu=0.45)),
}
PACKABLE = 50_000_000  # parameters beyond which a run is not tried by the packed engine
ALONE = 300_000_000  # parameters from which contenders do not share a GPU's memory
OURS = {"ours, module": Engine(), "ours, compiled": Engine(compile=True), "ours, packed": Engine(pack=1)}


def note(track: Track) -> str:
    """What the section's figures are."""
    cuda = track.device == "cuda"
    engines = "the family's module, eager or compiled," if cuda else "the family's module"
    best = "bf16, TF32 and torch.compile" if cuda else "the memory settings of our workers"
    memory = "the most that torch allocated" if cuda else "what the process took beyond its loaded libraries"
    return (
        f"Tokens/s of one run, {'bf16' if cuda else 'one thread'}. All train the same widths, layers, heads, vocabulary, "
        "windows and batches by fused AdamW with clipping; nobody logs, saves or drops out. `ours` is the family `gpt` through "
        f"the product's learner, by the quicker of {engines} and the packed engine with one run, as a plan chooses. `Trainer` "
        f"is that of transformers at its best: GPT-2 with SDPA and fused GELU, batches that need no collating, {best}; `as it "
        "comes` it has the defaults of these. `plain loop` is a GPT-2 without biases trained by hand. FLOPs are exact counts "
        "(attention over the whole window, head included); the peak is that of a large matrix product in the same run"
        f"{', MFU is of the datasheet' if cuda else ''}. Memory is {memory}. Figures with slashes are of ours / Trainer / "
        f"Trainer as it comes / plain loop{' / compiled loop' if cuda else ''}."
    )


def rows(track: Track, names: Sequence[str]) -> Iterator[Row]:
    """A row a size; those that need a GPU say so where there is none."""
    peak = peak_flops(track) if any(SIZES[name][1] or track.device == "cuda" for name in names) else 0.0
    for name in names:
        size, on_cpu, on_gpu = SIZES[name]
        asked = on_gpu if track.device == "cuda" else on_cpu
        if asked is None:
            yield Row("step", {"network": size.words(), "ours": NOT_YET, **on_gpu.cells(None)})
        else:
            yield _row(track, size, asked, peak)


def peak_flops(track: Track) -> float:
    """FLOP/s of a large matrix product on this device and these threads, by the best round."""
    side = 8192 if track.device == "cuda" else 1536
    done = track.race({"peak": Entry(matmul, (side, track.device), 2 * side**3)})["peak"]
    return done.tokens * done.steps / min(getattr(spent, done.clock) for spent in done.rounds)


def _entries(size: Size, device: str) -> dict[str, Entry]:
    made = {}
    for name, engine in OURS.items():
        too_large = engine.pack is not None and size.counts().n_params_total > PACKABLE
        if not too_large and (device == "cuda" or not engine.compile):  # on a CPU compiling never paid for its time
            made[name] = Entry(ours, (size, device, engine, device == "cpu"), size.batch_tokens)
    made["Trainer"] = trainer_entry(size, device, best=True)
    made["Trainer as it comes"] = trainer_entry(size, device, best=False)
    made["plain loop"] = Entry(plain_loop, (size, device, False), size.batch_tokens)
    if device == "cuda":
        made["compiled loop"] = Entry(plain_loop, (size, device, True), size.batch_tokens)
    return made


def _row(track: Track, size: Size, asked: Asked, peak: float) -> Row:
    counts = size.counts()
    outcomes = track.race(_entries(size, track.device), together=counts.n_params_total < ALONE)
    pace = paces(outcomes)
    best = max(OURS, key=lambda name: pace.get(name, 0.0))
    shown = {"ours": best, **{name: name for name in outcomes if name not in OURS}}
    sheet = datasheet_peak(device_name("cuda")) if track.device == "cuda" else None
    speeds = {label: pace.get(name) for label, name in shown.items()}
    mine, theirs, usual = (speeds[label] for label in ("ours", "Trainer", "Trainer as it comes"))
    figures = {
        "flops_per_token": counts.flops_per_token,
        "n_params_total": counts.n_params_total,
        "peak_flops": peak,
        "tokens_per_second": pace,
        "chosen": best,
        "ours": mine,
        "ratio": mine / theirs if mine and theirs else None,
        "mfu": mine * counts.flops_per_token / sheet if mine and sheet else None,
        "contenders": kept(outcomes),
    }
    cells = {"network": size.words()}
    for label, name in shown.items():
        engine = f" ({name.split()[-1]})" if name in OURS else ""
        cells[label] = f"{pace[name]:,.0f}{engine}" if name in pace else f"failed: {outcomes[name].error}"
    shares = [f"{100 * v * counts.flops_per_token / peak:.0f}" if v else "-" for v in speeds.values()]
    cells |= {
        "ours / Trainer": f"{figures['ratio']:.2f}" if figures["ratio"] else "-",
        "ours / as it comes": f"{mine / usual:.2f}" if mine and usual else "-",
        "ours, GFLOP/s": f"{mine * counts.flops_per_token / 1e9:,.1f}" if mine else "-",
        "of matmul peak, %": " / ".join(shares),
        "memory, MB": " / ".join(_megabytes(outcomes[name]) for name in shown.values()),
    }
    if sheet:
        cells["MFU, %"] = f"{100 * figures['mfu']:.1f}" if figures["mfu"] else "-"
    return Row("step", cells | asked.cells(figures), figures)


def _megabytes(outcome: Outcome) -> str:
    return f"{outcome.memory / 1e6:,.0f}" if outcome.memory is not None else "-"
