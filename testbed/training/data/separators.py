"""Documents in one file that end at a separator such as <|endoftext|>, which is no part of the text."""

from __future__ import annotations

import re
from collections.abc import Iterator

_KNOWN = (
    b"<|endoftext|>",
    b"<|end_of_text|>",
    b"<|end_of_document|>",
    b"<|eot|>",
    b"<|eos|>",
    b"<eos>",
    b"</s>",
    b"[EOS]",
)
_INLINE = 3  # so often does a separator stand that is not on a line of its own
_QUOTES = b"\"'`"


def recognised(text: bytes) -> bytes | None:
    """The known separator by which the text is divided, None where there is none.

    It stands on lines of its own, or between texts at least three times without quotation marks around it; a text that
    only speaks of it is not divided.
    """
    for separator in _KNOWN:
        if separator in text:
            pattern = re.escape(separator)
            every = text.count(separator)
            alone = len(re.findall(rb"(?m)^[ \t]*" + pattern + rb"[ \t]*\r?$", text))
            at_end = text.rstrip().endswith(separator)
            if alone == every or (alone + at_end == every and every == 1):
                return separator
            quoted = len(
                re.findall(rb"[" + _QUOTES + rb"]" + pattern + rb"|" + pattern + rb"[" + _QUOTES + rb"]", text)
            )
            if separator.startswith(b"<|") and every >= _INLINE and quoted * 10 <= every:
                return separator
    return None


def separated(text: bytes, separator: bytes) -> Iterator[bytes]:
    """The documents between separators, without the line ends that stand beside these."""
    first, *others = text.split(separator)
    for index, document in enumerate((first, *others)):
        if index:
            document = document.lstrip(b"\r\n")
        if index < len(others):
            document = document.rstrip(b"\r\n")
        if document.strip():
            yield document
