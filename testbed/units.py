"""Counts and times as people write them: "10M", "1.2e18", "3 m 20 s"."""

from __future__ import annotations

import math
import re

_SUFFIX = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"(?:\s*[0-9]+(?:\.[0-9]+)?\s*[smhd])+\s*", re.IGNORECASE)
_LARGEST = 1e30
_COUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?(?:e\+?[0-9]+)?)\s*([kmbgtp]?)", re.IGNORECASE)


def parse_count(text: str | int | float) -> int:
    """A whole number from a number or a text: 2000000, 2e6, "2M", "0.5M" or "1.2e18".

    >>> parse_count("0.5M")
    500000

    Raises:
        ValueError: It is not a whole number of at most 1e30; the message says what is accepted.
    """
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError('a count is a number or a text such as "10M", "0.5M" or "1.2e18"')
    if isinstance(text, str):
        match = _COUNT.fullmatch(text.strip())
        if match is None:
            raise ValueError('a count is a number or a text such as "10M", "0.5M" or "1.2e18"')
        value = float(match[1].replace("_", "")) * _SUFFIX[match[2].lower()]
    else:
        value = float(text) if isinstance(text, float) or abs(text) <= _LARGEST else math.inf
    if abs(value) > _LARGEST:
        raise ValueError("a count is at most 1e30")
    if not math.isfinite(value) or abs(value - round(value)) > 1e-6 * max(1.0, abs(value)):
        raise ValueError("a count is a whole number")
    return text if isinstance(text, int) else round(value)


def parse_seconds(text: str | int | float) -> float:
    """Seconds from a number of seconds or a text: "90 s", "4h", "1 h 30 m" or "2d".

    >>> parse_seconds("1 h 30 m")
    5400.0

    Raises:
        ValueError: It is neither; the message says what is accepted.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool) and 0 <= text <= _LARGEST:
        return float(text)
    if not isinstance(text, str) or _TIME.fullmatch(text) is None:
        raise ValueError('a time is a number of seconds or a text such as "90 s", "4h", "1 h 30 m" or "2d"')
    parts = re.findall(r"([0-9.]+)\s*([smhd])", text.lower())
    return min(_LARGEST, sum(float(number) * _SECONDS[unit] for number, unit in parts))


def show_count(value: float, digits: int = 3) -> str:
    """A count in few characters, with a power of ten from 1e15 on.

    >>> show_count(1234567), show_count(2.5e18)
    ('1.23M', '2.50e18')
    """
    if not math.isfinite(value):
        return str(value)
    for limit, scale, suffix in ((1e3, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M"), (1e12, 1e9, "B"), (1e15, 1e12, "T")):
        if abs(value) < limit * (1 - 0.5 * 10.0**-digits):
            return f"{float(f'{value / scale:.{digits}g}'):g}{suffix}"
    return f"{value:.{digits - 1}e}".replace("e+", "e")


def show_bytes(value: float) -> str:
    """Bytes in powers of 1000.

    >>> show_bytes(1234567)
    '1.23 MB'
    """
    for limit, scale, unit in ((1e3, 1.0, "B"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB"), (1e12, 1e9, "GB")):
        if value < limit * (1 - 0.5e-3):
            return f"{float(f'{value / scale:.3g}'):g} {unit}"
    return f"{float(f'{value / 1e12:.3g}'):g} TB"


def show_seconds(seconds: float) -> str:
    """A duration in its two largest units.

    >>> show_seconds(0.31), show_seconds(75.2), show_seconds(7260)
    ('0.3 s', '1 m 15 s', '2 h 01 m')
    """
    if not math.isfinite(seconds):
        return "?"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
