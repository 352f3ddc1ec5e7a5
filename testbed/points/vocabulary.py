"""Which columns a header's words make it, where it is none of the usual spellings: "Pretraining Data Size", eval/lm_loss."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.points.headers import Header


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


HELD_OUT = _set("val valid validation eval evaluation evals test heldout held dev holdout out")
TRAINING = _set("train training trained")
_NUMBER = _set("n num number of total count the all")
_STATISTIC = _set("final last end mean avg average min best lowest")
_MODEL = _set("model llm lm network size trainable")
_EMBEDDING = _set("non no not without with excl excluding incl including emb embd embed embeds embedding embeddings")
_SEEN = _set(
    "train training trained pretrain pretraining pre seen processed consumed used input budget so far in data dataset"
)
_SPENT = _set("train training trained pretrain pretraining pre budget model used est estimated cost c")
_LANGUAGE = _set("lm language modeling modelling model token per macro micro weighted cross entropy ce")


@dataclass(frozen=True)
class Words:
    """Words that make a column what it is: one of the `keys`, any of `fillers`; a filler must not be a key."""

    keys: tuple[frozenset[str], ...]
    fillers: frozenset[str]

    def unknown(self, words: tuple[str, ...]) -> int | None:
        """How many words of a header are neither key nor filler; None where no key is complete."""
        there = set(words)
        if not any(key <= there for key in self.keys):
            return None
        known = self.fillers.union(*self.keys)
        return sum(word not in known for word in words)


def _keys(*texts: str) -> tuple[frozenset[str], ...]:
    return tuple(_set(text) for text in texts)


_LOSS_FILLERS = HELD_OUT | TRAINING | _STATISTIC | _LANGUAGE | {"nats"}
WORDS = {
    "n": Words(
        _keys("params", "param", "parameters", "parameter", "nparams", "model size", "model scale"),
        _NUMBER | _MODEL | _EMBEDDING,
    ),
    "tokens": Words(
        _keys("tokens", "token count", "toks", "ntokens", "data size", "dataset size", "training data"),
        _NUMBER | _SEEN | {"size"},
    ),
    "flops": Words(_keys("flops", "flop", "flos", "compute", "nflops"), _NUMBER | _SPENT),
    "loss": Words(
        _keys("loss", "nll", "ce", "xent", "cross entropy", "crossentropy", "crossentropyloss"), _LOSS_FILLERS
    ),
    "bpb": Words(_keys("bpb", "bits per byte"), HELD_OUT | TRAINING | _STATISTIC | {"macro", "micro"}),
    "perplexity": Words(_keys("ppl", "perplexity"), HELD_OUT | TRAINING | _STATISTIC | _LANGUAGE),
}
_NO_LOSS = _set(
    "aux auxiliary moe router z balance balancing load reg regularization kl distill distillation contrastive"
)
_NO_COUNT = _set(
    "per unique distinct batch val valid validation eval test active activated expert experts sec second vocab"
)
_LOSSES = ("loss", "bpb", "perplexity")


def split_of(words: tuple[str, ...]) -> int:
    """What a loss was taken on: 0 a held-out text, 1 unsaid, 2 the training text."""
    there = set(words)
    return 0 if there & (HELD_OUT - {"out"}) else 2 if there & TRAINING else 1


def is_rate(said: Header) -> bool:
    """Whether FLOPs are those of a second rather than of a run: GFLOPs and TFLOPs, unless of a whole training."""
    return (
        said.unit is not None
        and said.unit.factor in (1e9, 1e12)
        and said.words == ("flops",)
        and len(said.unit.text) < 7
    )


def meaning(name: str, said: Header) -> int | None:
    """How many unknown words a header has as a column of this name; None where it is no such column.

    >>> from testbed.points.headers import header
    >>> meaning("tokens", header("Pretraining Data Size (T)")), meaning("loss", header("eval/c4/loss"))
    (0, 1)
    """
    known = WORDS.get(name)
    extra = None if known is None else known.unknown(said.words)
    if extra is None or set(said.words) & (_NO_LOSS if name in _LOSSES else _NO_COUNT):
        return None
    return extra if extra == 0 or name in _LOSSES else None
