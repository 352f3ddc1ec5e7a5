"""Reads what a column's name says: its words, and the unit that it states ("Model Size (B)", params_M, EFLOPs)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

_MAGNITUDES = {
    **dict.fromkeys(("k", "kilo", "thousand", "thousands"), 1e3),
    **dict.fromkeys(("m", "mega", "mil", "mio", "mln", "mn", "million", "millions"), 1e6),
    **dict.fromkeys(("b", "bn", "bln", "g", "giga", "billion", "billions"), 1e9),
    **dict.fromkeys(("t", "tn", "tera", "trillion", "trillions"), 1e12),
    **dict.fromkeys(("p", "peta", "quadrillion"), 1e15),
    **dict.fromkeys(("e", "exa"), 1e18),
    **dict.fromkeys(("z", "zetta"), 1e21),
}
_COUNTED = r"(?:params?|parameters?|tokens?|toks?|flops?|floating point operations|examples?|steps?)"
_POWER = re.compile(r"(?:[x×*/]\s*)?(?:1e\+?([0-9]{1,2})|10\s*(?:\^|\*\*|e\+?)\s*([0-9]{1,2}))")
_GLUED = re.compile(rf"(k|m|g|b|t|p|e|z|mega|giga|tera|peta|exa|zetta)-?({_COUNTED})")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SUFFIXES = _set(
    "k m mil mio mln mn million millions b bn bln g billion billions t tn trillion trillions thousand thousands"
)
_FOREIGN = re.compile(  # units of which no factor makes a count, a loss in nats or a share
    r"[kmgtp]?i?b(?:ytes?)?|bytes?|[munp]?s(?:ec(?:onds?)?)?|h(?:ours?|rs?)?|days?|min(?:utes?)?|usd|\$|€|w|kwh|gpus?.*|.*/s(?:ec)?"
)
_PETAFLOP_DAY = 8.64e19
_CONTAINERS = "config|cfg|summary|metrics?|hparams?"
_CONTAINER = re.compile(
    rf"(?:(?:{_CONTAINERS}|params|results?|args|info|stats|meta|metadata|model|run|history|scalars?|data|logs?|throughput"
    rf"|perf|optim|tracker_metrics|state)\s*[./:]|(?:{_CONTAINERS})_)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Unit:
    """A unit that a name states: `factor` times a value is in the column's own unit; nan where none is."""

    text: str
    factor: float


@dataclass(frozen=True)
class Header:
    """The lower-case words of a column's name, without its unit and what it is nested in."""

    words: tuple[str, ...]
    unit: Unit | None = None

    @property
    def plain(self) -> str:
        """The words in one, for comparing spellings."""
        return "".join(self.words)


@lru_cache(maxsize=20_000)
def header(name: str) -> Header:
    """The words and the unit of a column's name.

    >>> header("Model Size (B)"), header("config.params_M").unit.factor
    (Header(words=('model', 'size'), unit=Unit(text='B', factor=1000000000.0)), 1000000.0)
    """
    name = name[:200].lstrip("#").strip()
    while (nested := _CONTAINER.match(name)) and nested.end() < len(name):
        name = name[nested.end() :]
    unit = None
    bracket = re.fullmatch(r"(.+?)[\s_]*[(\[{]([^()\[\]{}]+)[)\]}]", name)
    if bracket is not None:
        unit = stated_unit(bracket[2])
        name = bracket[1] if unit is not None else f"{bracket[1]} {bracket[2]}"
    over = re.fullmatch(r"(.+?)\s*[/,]\s*((?:1e|10\^|10\*\*)[0-9]+|[kKMBT]|millions?|billions?|trillions?)", name)
    if unit is None and over is not None:
        name, unit = over[1], stated_unit(over[2])
    words = _words(name)
    if unit is None:
        words, unit = _unit_among(words)
    return Header(words, unit)


def stated_unit(text: str) -> Unit | None:
    """The unit in a text such as B, billions, 1E21, M params, EFLOPs, bits, % or bits/byte; None where it is none.

    The factor leads to counts, nats or shares; bits/byte has none to nats/token, so it is 1.
    """
    said = re.sub(r"^in\s+|\s+of\s+", " ", re.sub(r"[\s_]+", " ", text.strip().lower())).strip()
    power = _POWER.fullmatch(re.sub(rf"\s*{_COUNTED}$", "", said))
    if power:
        return Unit(text, 10.0 ** int(power[1] or power[2]))
    if re.fullmatch(r"(?:pf|petaflops?)(?:/s)?[- ]?days?", said):
        return Unit(text, _PETAFLOP_DAY)
    word = re.sub(rf"\s+{_COUNTED}$", "", said).lstrip("x×# ")
    if word in _MAGNITUDES:
        return Unit(text, _MAGNITUDES[word])
    glued = _GLUED.fullmatch(said)
    if glued:
        return Unit(text, _MAGNITUDES[glued[1]])
    if re.fullmatch(r"%|pct|percent(?:age)?", said):
        return Unit(text, 0.01)
    if re.fullmatch(r"bits?(?:(?:/| per )tok(?:en)?)?", said):
        return Unit(text, math.log(2))
    if re.fullmatch(
        r"nats?(?:(?:/| per )tok(?:en)?)?|bpb|bpc|(?:bits?|nats?)(?:/| per )(?:bytes?|char(?:acter)?s?|words?)", said
    ):
        return Unit(text, 1.0)
    return Unit(text, math.nan) if _FOREIGN.fullmatch(said) else None


def _words(name: str) -> tuple[str, ...]:
    name = re.sub(r"FLOP[sS]?", "Flops", name).replace("LLM", "Llm")
    parts = re.findall(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[0-9]+(?:e[0-9]+)?|[^\W\d_]+|%", name)
    return tuple(part.lower() for part in parts)


def _unit_among(words: tuple[str, ...]) -> tuple[tuple[str, ...], Unit | None]:
    """The words without those of a unit: params_M, million tokens, mparams, loss in bits, acc_pct, model_size_gb."""
    if len(words) > 1:
        for count in (4, 3, 2, 1):
            tail = words[-count:]
            if len(words) > count and (count == 1 or tail[0] in ("in", "bits", "nats", "bit")):
                single = (
                    count == 1
                    and tail[0] not in _SUFFIXES
                    and not re.fullmatch(r"pct|percent|bits|nats|1e[0-9]+", tail[0])
                )
                unit = None if single and not re.fullmatch(r"[kmgt]i?b|bytes", tail[0]) else stated_unit(" ".join(tail))
                if unit is not None:
                    return words[:-count], unit
    for i, word in enumerate(words):
        glued = _GLUED.fullmatch(word)
        if glued and word not in ("params", "tokens", "flops", "param", "token", "flop"):
            return (*words[:i], glued[2], *words[i + 1 :]), Unit(word, _MAGNITUDES[glued[1]])
        if word in _MAGNITUDES and len(words) > i + 1 and re.fullmatch(_COUNTED, words[i + 1]):
            return (*words[:i], *words[i + 1 :]), Unit(word, _MAGNITUDES[word])
    return words, None
