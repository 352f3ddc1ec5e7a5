"""Describes the tokens of a source before anything is trained: sizes, a sample, the entropy of single tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.records import DataFacts
from testbed.training.data.inventory import Inventory
from testbed.training.data.source import TokenSource
from testbed.training.data.text import TextSource

_SAMPLED = 160  # tokens that are shown
_ROWS = 4096  # of a source without an end, from which its frequencies are counted
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Description:
    """What a source holds. `unigram_entropy` (nats/token) is the loss of a model that knows frequencies and no context."""

    facts: DataFacts
    inventory: Inventory | None
    lines: tuple[str, ...]
    unigram_entropy: float
    sample: str

    def sentences(self) -> list[str]:
        """The description as sentences."""
        facts = self.facts
        train = "without end" if facts.train_tokens is None else f"{facts.train_tokens:,} tokens"
        windows = facts.val_tokens // (facts.seq_len - facts.first_scored)
        sizes = (
            f"for training {train}, for validation {windows:,} windows of {facts.seq_len} ({facts.val_tokens:,} tokens scored); "
            f"tokenizer {facts.tokenizer}, vocabulary {facts.vocab_size:,}"
        )
        entropy = (
            f"entropy of single tokens {self.unigram_entropy:.4f} nats (of a uniform vocabulary {np.log(facts.vocab_size):.4f})"
            ": a model that has learned anything is below it"
        )
        known = [f"true entropy {facts.entropy:.4f} nats/token"] if facts.entropy is not None else []
        return [
            *self.lines,
            sizes,
            entropy,
            *known,
            f"sample: {self.sample!r}",
            f"fingerprint {facts.fingerprint[:16]}",
        ]

    def as_json(self) -> dict[str, Any]:
        """The description as JSON values."""
        return {
            "facts": self.facts.model_dump(mode="json"),
            "inventory": None if self.inventory is None else self.inventory.model_dump(mode="json"),
            "dropped_share": None if self.inventory is None else self.inventory.dropped_share,
            "sentences": list(self.lines),
            "unigram_entropy": self.unigram_entropy,
            "sample": self.sample,
        }


def describe(source: TokenSource) -> Description:
    """The description of an opened source; reads all of its training tokens, or some of an endless one."""
    text = isinstance(source, TextSource)
    first = source.rows(0, 0, 1)[0]
    tokens = source.tokens if isinstance(source, TextSource) else source.rows(0, 0, _ROWS).reshape(-1)
    return Description(
        facts=source.facts,
        inventory=source.inventory if isinstance(source, TextSource) else None,
        lines=tuple(said(source)),
        unigram_entropy=_unigram_entropy(tokens, source.facts.vocab_size),
        sample=_as_text(source, tokens[:_SAMPLED] if text else first[:_SAMPLED]),
    )


def said(source: TokenSource) -> list[str]:
    """What a source says of its tokens in a plan and on a page; nothing where it has nothing to say."""
    sentences = getattr(source, "sentences", None)
    return [] if sentences is None else list(sentences())


def _unigram_entropy(tokens: NDArray[np.integer], vocab_size: int) -> float:
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(tokens), _CHUNK):
        counts += np.bincount(tokens[start : start + _CHUNK], minlength=vocab_size)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _as_text(source: TokenSource, ids: NDArray[np.integer]) -> str:
    tokenizer = getattr(source, "tokenizer", None)
    if source.facts.tokenizer == "bytes":
        return bytes(ids.astype(np.uint8)).decode(errors="replace")
    if tokenizer is None:
        return " ".join(map(str, ids[: _SAMPLED // 4]))
    from tokenizers import Tokenizer

    decoded: str = Tokenizer.from_str(tokenizer.as_json()).decode(ids.tolist(), skip_special_tokens=False)
    return decoded
