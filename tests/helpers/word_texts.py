"""Invented words as text, so that tests need no text of anyone's."""

from __future__ import annotations

import random
from functools import cache

_SYLLABLES = ["ba", "do", "fi", "gu", "ha", "jo", "ke", "lu", "mi", "no", "pa", "re", "si", "tu", "va", "wo"]


@cache
def words(count: int, seed: int = 0) -> list[str]:
    """Different invented words."""
    rng = random.Random(seed)
    found = {"".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(3 * count)}
    return sorted(found)[:count]


def prose(size: int, seed: int, vocabulary: int = 700) -> str:
    """About `size` characters of lines of words; another text for another seed."""
    rng = random.Random(seed)
    chosen, lines, length = words(vocabulary), [], 0
    while length < size:
        line = " ".join(rng.choices(chosen, k=rng.randint(4, 12))).capitalize() + "."
        lines.append(line)
        length += len(line) + 1
    return "\n".join(lines)[:size]
