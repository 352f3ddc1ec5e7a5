"""Wraps text between words, never inside one."""

from __future__ import annotations

import re
from itertools import pairwise

from rich.cells import cell_len

_WORD = re.compile(r"\S+")


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """The lines of a paragraph, those after the first indented; a word longer than `width` stays whole."""
    first, *more = pieces(text, width - cell_len(indent))
    return [first, *(indent + piece for piece in more)]


def pieces(text: str, width: int) -> list[str]:
    """A paragraph cut between words, each piece at most `width` cells wide unless it is one word."""
    starts = [0, *breaks(text, width), len(text)]
    return [text[start:end].rstrip() for start, end in pairwise(starts)]


def breaks(text: str, width: int) -> list[int]:
    """Where a paragraph goes on in the next line, as offsets of first letters."""
    found, start = [], 0
    for word in _WORD.finditer(text):
        if cell_len(text[start : word.end()]) > width and text[start : word.start()].strip():
            start = word.start()
            found.append(start)
    return found
