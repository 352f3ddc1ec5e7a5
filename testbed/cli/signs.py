"""Signs that a terminal's encoding lacks, printed as others that it has: no sentence ends in an error."""

from __future__ import annotations

import codecs
import contextlib
import unicodedata
from typing import Any

_DEFAULTS = ("strict", "surrogateescape", "backslashreplace")  # of Python; another one is the user's wish
_ALIKE = {
    "±": "+-",
    "×": "x",
    "·": ".",
    "−": "-",
    "–": "-",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "α": "alpha",
    "β": "beta",
    "λ": "lambda",
    "█": "#",
}


def show_every_sign(stream: Any) -> None:
    """Have a text stream print what its encoding lacks by similar signs, or "?"; a stream that cannot be set is left alone."""
    if getattr(stream, "errors", None) in _DEFAULTS and hasattr(stream, "reconfigure"):
        codecs.register_error("testbed.similar", _similar)
        with contextlib.suppress(OSError):  # what was to be printed before cannot be
            stream.reconfigure(errors="testbed.similar")


def _similar(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(sign: str) -> str:
    written = _ALIKE.get(sign) or unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return written or "?"
