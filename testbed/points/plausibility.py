"""Whether a column can be what it is taken for, and whether the counts of a table can be those of models and their training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.errors import TableError
from testbed.points.numbers import to_floats
from testbed.units import show_count

Array = NDArray[np.float64]

NO_NUMBERS = "holds no numbers"
_LEAST_N = 1e3  # parameters of the largest model, a billion where they are counted in millions
_LEAST_D = 1e5  # tokens of the longest run, where every model has more parameters than that
_FEW = 3.0  # tokens per parameter
_LEAST_C = 1e9  # FLOPs of the largest run
_N_RANGE = (1e5, 2e12)  # parameters that a unit may lead to
_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_USUAL_RATIO = 20.0  # tokens per parameter, arXiv:2203.15556
_NEAR = (0.2, 20.0)  # FLOPs over 6 N D of one unit: heads and attention are in some counts only


def impossible(name: str, spelling: str, column: pd.Series[Any], factor: float) -> str:
    """Why a column that was not asked for cannot hold `name`; "" if it can.

    A single letter has many meanings (n seeds, L layers, D a width, C channels), a longer name only that of its words.
    """
    values = to_floats(column, counts=True) * factor
    values = values[np.isfinite(values)]
    if not values.size:
        return NO_NUMBERS
    whole = bool((values % 1 == 0).all())
    low, high = values.min(), values.max()
    span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    letter = len(spelling) == 1
    if name == "loss" and letter and whole and high > low:
        return f"holds whole numbers, {span}"
    if name in ("n", "tokens") and letter and whole and high < _LEAST_N and factor == 1:
        return f"holds {span}"
    if name == "tokens" and letter and low == high and whole and high < _LEAST_D:
        return f"holds {span} in every row"
    if name == "flops" and high < (_LEAST_C if letter else 1.0):
        return f"holds {span}"
    if name == "perplexity" and low < 1:
        return f"holds {span}"
    return ""


def check_counts(points: pd.DataFrame, sources: Mapping[str, str], where: str) -> None:
    """Refuse sizes that no model and no training run has: they are in another unit than parameters and tokens.

    Raises:
        TableError: With what was found, why it cannot be, and the units that mend it.
    """
    n, tokens = (points[name].to_numpy(np.float64) if name in points else None for name in ("n", "tokens"))
    if n is None or not len(n):
        alone = tokens is not None and set(points.columns) <= {
            "tokens",
            "loss",
            "run",
        }  # other sizes may share its unit
        if alone and tokens is not None and len(tokens) and tokens.max() < _LEAST_N and (tokens % 1 != 0).any():
            raise TableError(
                f"{where}: tokens = {sources.get('tokens', 'tokens')} holds {_span(tokens)}, but a part of a token is none; "
                "say the unit, such as --unit tokens=B (billions)"
            )
        return
    tiny = n.max() <= _LEAST_N
    short = tokens is not None and _too_short(n, tokens)
    if tiny or short:
        raise TableError(_told(n, tokens, tiny, sources, where))


def _too_short(n: Array, tokens: Array) -> bool:
    """Whether the longest run is none, beside its models: N in millions and D in billions have like numbers."""
    if tokens.max() < _LEAST_D and bool((tokens < n).all()):
        return True
    return bool(n.max() < _LEAST_D and tokens.max() < 0.2 * _LEAST_D and np.median(tokens / n) < _FEW)


def _told(n: Array, tokens: Array | None, tiny: bool, sources: Mapping[str, str], where: str) -> str:
    found = f"n = {sources.get('n', 'n')} holds {_span(n)} parameters"
    if tokens is not None:
        found += f" and tokens = {sources.get('tokens', 'tokens')} {_span(tokens)} tokens"
    why = "no model is that small" if tiny else "no run is that short"
    units = _units(n, tokens)
    example = ",".join(f"{name}={unit}" for name, unit in units.items())
    sizes = f" (then N is {_shown(n, units.get('n', ''))}"
    sizes += f", D {_shown(tokens, units.get('tokens', ''))})" if tokens is not None else ")"
    if not units:
        example, sizes = "n=M,tokens=B", ""
    return (
        f"{where}: {found}; {why}; say the units, such as --unit {example}{sizes}, or name other columns "
        "(--n COLUMN, --d COLUMN); --unit n=1,tokens=1 takes them as they are"
    )


def _units(n: Array, tokens: Array | None) -> dict[str, str]:
    """The smallest units in which the sizes are those of models, with the most usual number of tokens a parameter."""
    best: tuple[float, float, dict[str, str]] | None = None
    for unit, scale in _SCALES.items():
        if not (_N_RANGE[0] <= n.min() * scale and n.max() * scale <= _N_RANGE[1]):
            continue
        if tokens is None:
            return {"n": unit} if unit else {}
        for other, second in _SCALES.items():
            off = abs(np.log10(np.median(tokens * second / (n * scale)) / _USUAL_RATIO))
            units = {name: u for name, u in (("n", unit), ("tokens", other)) if u}
            key = (round(float(off), 6), scale * second, units)
            if best is None or key[:2] < best[:2]:
                best = key
    return {} if best is None else best[2]


def power_of_thousand(flops: Array, n: Array, tokens: Array) -> int:
    """The k of a FLOPs column that is 6 N D times 1,000^k in every row; 0 where it is 6 N D or something else."""
    with np.errstate(all="ignore"):
        ratio = flops / (6 * n * tokens)
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
    if not ratio.size:
        return 0
    k = round(float(np.log10(np.median(ratio))) / 3)
    rest = ratio / 1000.0**k
    return k if k and _NEAR[0] <= rest.min() and rest.max() <= _NEAR[1] else 0


def check_flops(
    points: pd.DataFrame, flops: Callable[[], tuple[str, Array] | None], sources: Mapping[str, str], where: str
) -> None:
    """Refuse N and D that are a power of 1,000 off the table's FLOPs column, and FLOPs that a law takes off them.

    `flops` gives the column's name and values, or None where the table has none.

    Raises:
        TableError: With the factor, which is proven, and the units that mend it.
    """
    if not {"n", "tokens"} <= set(points.columns):
        return
    found = flops()
    if found is None or len(found[1]) != len(points):
        return
    name, values = found
    n, tokens = points["n"].to_numpy(np.float64), points["tokens"].to_numpy(np.float64)
    k = power_of_thousand(values, n, tokens)
    if k == 0 or (k < 0 and "flops" not in points):
        return
    factor = f"1e{3 * abs(k)}"
    if k < 0:
        raise TableError(
            f"{where}: flops = {name} is 6 N D / {factor} in every row, so it counts another unit than FLOPs; "
            f"say --unit flops={factor}"
        )
    units = _split(n, tokens, 1000.0**k)
    example = ",".join(f"{column}={unit}" for column, unit in units.items())
    raise TableError(
        f"{where}: {name} is 6 N D times {factor} in every row of n = {sources.get('n', 'n')} and tokens = "
        f"{sources.get('tokens', 'tokens')}, so these are in other units than parameters and tokens; say them, such as "
        f"--unit {example or f'tokens={factor}'}"
    )


def _split(n: Array, tokens: Array, factor: float) -> dict[str, str]:
    """The units of N and D, of the given product, that make the most usual number of tokens a parameter."""
    found = {}
    for unit, scale in _SCALES.items():
        for other, second in _SCALES.items():
            if np.isclose(scale * second, factor) and n.max() * scale <= _N_RANGE[1]:
                off = abs(np.log10(np.median(tokens * second / (n * scale)) / _USUAL_RATIO))
                found[float(off)] = {name: u for name, u in (("n", unit), ("tokens", other)) if u}
    return found[min(found)] if found else {}


def _span(values: Array) -> str:
    return f"{values.min():g} to {values.max():g}"


def _shown(values: Array, unit: str) -> str:
    scale = _SCALES[unit]
    return f"{show_count(values.min() * scale)} to {show_count(values.max() * scale)}"
