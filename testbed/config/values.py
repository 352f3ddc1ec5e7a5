"""Types of the values: counts, seeds, names and texts, with their ranges."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from testbed.units import parse_count


def as_tuple(value: Any) -> Any:
    """A list (of TOML) as the tuple that a frozen table holds; any other value unchanged."""
    return tuple(value) if isinstance(value, list) else value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError("a list with at least one value, each only once")
    return values


def _or_zero(value: Any) -> Any:
    """0 for the ways to write "no limit", of which TOML has no null; any other value unchanged."""
    return 0.0 if value is None or value == "none" or value == math.inf else value


def _plain(text: str) -> str:
    if any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in text):
        raise ValueError(
            "a text without control characters (in double quotes \\t and \\n are a tab and a line's end: write a path in "
            "single quotes, or with /)"
        )
    return text


def _portable(name: str) -> str:
    if name.endswith(".") or name.partition(".")[0].upper() in _DEVICES:
        raise ValueError(
            "a name that a folder can have on every system: no device such as nul or com1, no dot at its end"
        )
    return name


_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(10))}
_Many = (BeforeValidator(as_tuple), AfterValidator(_distinct))

Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]
BatchTokens = Annotated[int | Literal["auto"], BeforeValidator(lambda v: v if v == "auto" else parse_count(v))]
Clip = Annotated[float, BeforeValidator(_or_zero), PlainSerializer(_or_zero)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
CountList = Annotated[tuple[Count, ...], *_Many]
Seeds = Annotated[tuple[Seed, ...], *_Many]
DataSeeds = Literal["own"] | Seeds
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], *_Many]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64), AfterValidator(_portable)]
Text = Annotated[str, Field(max_length=4096), AfterValidator(_plain)]
Names = Annotated[tuple[Text, ...], *_Many]
Texts = Annotated[tuple[Text, ...], BeforeValidator(as_tuple)]
