"""The model card of an exported run: its shape, its losses, and how it was trained."""

from __future__ import annotations

from testbed.analysis.report.study import sentences as words
from testbed.records import Provenance, RunSpec
from testbed.training.store import RunFolder, SweepFolder
from testbed.units import show_count

_HEAD = "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- testbed\n- scaling-laws\n---\n"
_TOKENIZERS = {
    "bytes": "One token a byte of UTF-8; id 0, the zero byte, ends a document.",
    "none": "The language is synthetic and has no text: the tokenizer reads and writes its symbols' numbers, `17 3 22`.",
}
_BPE = "Byte-level BPE that was trained on the training text; id 0, `<|endoftext|>`, ends a document."


def model_card(sweep: SweepFolder, run: RunFolder, architecture: str) -> str:
    """The card as Markdown, for README.md; `architecture` is the class in transformers."""
    spec = run.spec
    rows = [*_shape(spec, architecture), *_losses(run), *_training(spec), *_provenance(run)]
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows)
    limits = (
        f"It was trained to measure a scaling law, on windows of {spec.shape.seq_len} tokens: it has seen no longer "
        "context and no other data. Weights are fp32."
    )
    return (
        f"{_HEAD}\n# {_cell(sweep.config.name)}: {spec.run_id}\n\n"
        f"A {spec.role} run of the study `{_cell(sweep.config.name)}` (configuration `{sweep.config.hash()[:16]}`), "
        f"exported by testbed. {limits}\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n{_TOKENIZERS.get(spec.data.tokenizer, _BPE)}\n"
        + _seal(sweep, spec)
        + "\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")\n'
        'tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")\n```\n'
    )


def _shape(spec: RunSpec, architecture: str) -> list[tuple[str, str]]:
    shape, counts = spec.shape, spec.counts
    return [
        ("family", f"{shape.family}, as {architecture}"),
        ("shape", f"width {shape.width}, {shape.depth} layers, {shape.heads} heads, vocabulary {shape.vocab_size:,}"),
        ("N without embeddings", f"{counts.n_params_non_embedding:,}"),
        ("N in all", f"{counts.n_params_total:,}"),
    ]


def _losses(run: RunFolder) -> list[tuple[str, str]]:
    """The annealed loss of the last horizon, which the weights are of."""
    spec, last = run.spec, run.spec.horizons[-1]
    found = next((e for e in reversed(run.evals()) if e.phase == "annealed" and e.horizon == last.tokens), None)
    rows = [("D", f"{last.tokens:,} tokens, {last.tokens / spec.counts.n_params_non_embedding:.1f} a parameter")]
    if found is not None:
        per_byte = "" if found.bpb is None else f", {found.bpb:.4f} bits/byte"
        rows += [
            ("training FLOPs", show_count(found.flops)),
            ("validation loss", f"{found.loss:.4f} nats/token{per_byte}"),
        ]
    entropy = spec.data.entropy
    return rows if entropy is None else [*rows, ("entropy of the data", f"{entropy:.4f} nats/token")]


def _training(spec: RunSpec) -> list[tuple[str, str]]:
    data = spec.data
    return [
        ("data", f"{data.source}, tokenizer {data.tokenizer}, fingerprint {data.fingerprint[:16]}"),
        ("training", f"AdamW, learning rate {spec.lr:g} (hidden matrices {spec.lr_hidden:g}), {spec.precision}"),
        ("batch", f"{spec.batch_tokens:,} tokens of {spec.shape.seq_len}"),
        ("seeds", f"weights {spec.init_seed}, order of the data {spec.data_seed}"),
    ]


def _provenance(run: RunFolder) -> list[tuple[str, str]]:
    started: list[Provenance] = run.provenance()
    if not started:
        return []
    last = started[-1]
    versions = ", ".join(f"{name} {number}" for name, number in last.versions.items())
    rows = [("trained by", f"{versions}, Python {last.python}, on {last.device}; {last.started}")]
    return rows if last.commit is None else [*rows, ("commit", last.commit)]


def _seal(sweep: SweepFolder, spec: RunSpec) -> str:
    """For a target: its forecast and verdict."""
    if spec.role != "target" or not sweep.has_forecast():
        return ""
    forecast, verdict = sweep.forecast(), sweep.verdict()
    judged = "" if verdict is None else " " + words.verdict_sentence(verdict)
    return (
        f"\nIts loss was forecast before it was trained (sealed {forecast.sealed_at}, SHA-256 `{forecast.digest}`). "
        if not forecast.after_the_fact
        else f"\nIts loss was forecast (SHA-256 `{forecast.digest}`). "
    ) + f"{words.forecast_sentence(forecast)}{judged}\n"


def _cell(text: str) -> str:
    """Text as one Markdown table cell, with special characters escaped."""
    plain = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\|`*_[]<>" else letter for letter in plain)
