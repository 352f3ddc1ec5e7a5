"""What the rows of one design differ in: a seed, or a setting such as the learning rate or the data.

Rows of one design (one N and D, or whatever columns the law has) are replicates only where nothing but a seed differs
between them. What lies between the learning rates of a sweep, or between two corpora, is no noise.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.laws import Law
from testbed.errors import TableError
from testbed.points import column_named
from testbed.points.expressions import columns_of, parse, quoted

Codes = NDArray[np.intp]

_SEED = re.compile(r"seed|replica|^rep$|^repeats?$|^rng", re.IGNORECASE)
_TUNED = re.compile(
    r"(^|[^a-z])(lr|wd|beta_?[12]|eps(ilon)?|eta|bsz?|gbsz?|mbsz?|b_?size)($|[^a-z])|learning_?rate|batch|weight_?decay|"
    r"warm_?up|drop_?out|momentum|clip|optim|schedul|anneal|cool_?down|decay|init_std|tempera|z_?loss",
    re.IGNORECASE,
)
_MEASURED = re.compile(
    r"loss|bpb|bpc|bits_per|ppl|perplex|acc($|[^a-z]|uracy)|error|err($|_)|score|bleu|rouge|metric|grad|norm$|mfu|"
    r"(^|_)(time|seconds|secs?|hours?|minutes?|runtime|duration|elapsed|wall|memory|mem|power|energy|cost|price|"
    r"throughput|date|created|started|finished|timestamp)($|_)|per_sec|gpu|device|host|world_size|nodes?$",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"^(unnamed|index$|idx$|id$|uuid|name$|run($|_)|job($|_)|trial($|_)|exp($|_id|_name)|experiment($|_id|_name)|row$|"
    r"url|path|file|folder|dir$|checkpoint|ckpt|tags?$|notes?$|comments?$|commit|sha|hash|user)|_(id|url|path|uuid|hash)$",
    re.IGNORECASE,
)
_PROGRESS = re.compile(
    r"^(status|state|finished|completed?|done|crashed|failed|diverged|phase|role|is_final|epoch|exit_?code|outcome)$",
    re.IGNORECASE,
)
_STEPS = re.compile(r"(^|_)(steps?|iters?|iterations)$", re.IGNORECASE)
_FEW = 12  # values that any column may have and still be a setting; a number of more may be measured
_SHARE = 0.25  # of the rows, up to which the values of a larger table are few


@dataclass(frozen=True)
class Settings:
    """Columns that differ between rows of one design, the most telling first, and each row's combination of them [rows]."""

    names: tuple[str, ...] = ()
    codes: Codes | None = None

    @classmethod
    def of(cls, table: pd.DataFrame, points: pd.DataFrame, law: Law, mapping: Mapping[str, str]) -> Settings:
        """From a table and its fitted columns; none where only a seed, or nothing, differs within the law's designs."""
        by = design_columns(law)
        if not by or {"run", "step"} & set(law.columns):  # a law of whole curves has no replicates
            return cls()
        cells = codes_of(points[by])
        if int(cells.max()) + 1 == len(cells):
            return cls()
        names, codes, alone = [], cells, np.zeros(len(cells), np.intp)
        for name, values in _ranked(table, points, law, mapping, cells):
            finer, own = joined(codes, values), joined(alone, values)
            # once every row is apart no column tells more; a setting that is tuned is named all the same
            if finer.max() > codes.max() or (is_tuned(name) and own.max() > alone.max()):
                names.append(name)
                codes, alone = finer, own
        return cls(tuple(names), codes) if names else cls()


def design_columns(law: Law) -> list[str]:
    """The columns of a law that make a design: all but the run's name."""
    return [name for name in law.columns if name != "run"]


def is_seed(name: str) -> bool:
    """Whether a column of this name says which repeat of one and the same configuration a row is."""
    return _SEED.search(name) is not None


def is_tuned(name: str) -> bool:
    """Whether a column of this name is a setting that people tune, so that the best of each design is meant."""
    return _TUNED.search(name) is not None and not _MEASURED.search(name)


def codes_of(frame: pd.DataFrame) -> Codes:
    """Number of each row's combination of values [rows]."""
    codes = np.zeros(len(frame), np.intp)
    for name in frame:
        codes = joined(codes, pd.factorize(frame[name])[0])
    return codes


def joined(first: Codes, second: Codes) -> Codes:
    """Number of each row's pair of numbers [rows]; a missing value, -1, is a value."""
    pairs = first.astype(np.int64) * (int(second.max(initial=0)) + 2) + second + 1
    return np.asarray(np.unique(pairs, return_inverse=True)[1], np.intp)


def candidates(table: pd.DataFrame, mapping: Mapping[str, str]) -> Iterator[tuple[str, Codes]]:
    """Columns that may be settings of a run, with the number of each row's value [rows].

    Not those that are fitted, nor seeds, names of runs, what was measured, or how far a run came; of numbers, and of
    texts, those with few values.
    """
    used, times = sources(mapping.values()), Counter(table.columns)
    for name in dict.fromkeys(each for each in table.columns if isinstance(each, str)):
        if name in used or is_seed(name) or _NAME.search(name) or _PROGRESS.search(name):
            continue
        tuned = is_tuned(name)
        if (_MEASURED.search(name) and not tuned) or times[name] > 1:
            continue
        try:
            codes, values = pd.factorize(table[name])
        except TypeError:  # lists
            continue
        if len(values) + bool((codes < 0).any()) < 2:
            continue
        few = len(values) <= max(_FEW, _SHARE * len(table)) and len(values) < len(table)
        if tuned or few:
            yield name, np.asarray(codes, np.intp)


def sources(mapped: Iterable[str]) -> set[str]:
    """The table's columns behind mapped columns: their names, and those in expressions."""
    used = set()
    for source in mapped:
        used.add(source)
        try:
            used.update(columns_of(parse(source, "the mapping")))
        except TableError:
            continue
    return used


def as_expression(source: str) -> str:
    """A mapped column as an expression writes it: its name, in backticks where needed, or the expression in parentheses."""
    if not set(source) & set("+-*/"):
        return quoted(source)
    try:
        parse(source, "the mapping")
    except TableError:
        return quoted(source)
    return f"({source})"


def _ranked(
    table: pd.DataFrame, points: pd.DataFrame, law: Law, mapping: Mapping[str, str], cells: Codes
) -> list[tuple[str, Codes]]:
    """The candidates that vary within designs: sizes first, then those that explain most of the response there.

    Columns of very many values, as of a random search, explain anything, and come last; so do steps, which follow from
    tokens and batch.
    """
    y = points[law.response].to_numpy(np.float64)
    y = y - _means(y, cells)
    total = float(y @ y)
    found: list[tuple[bool, bool, float, str, Codes]] = []
    for name, values in candidates(table, mapping):
        finer = joined(cells, values)
        if finer.max() > cells.max():
            left = y - _means(y, values)
            share = 1 - float(left @ left) / total if total > 0 else 0.0
            many = int(values.max()) >= len(table) // 2 or _STEPS.search(name) is not None
            found.append((not _is_size(name), many, -share, name, values))
    return [(name, values) for *_, name, values in sorted(found, key=lambda each: each[:4])]


def _is_size(name: str) -> bool:
    return any(name in column_named(size).names for size in ("n", "tokens", "unique_tokens", "flops"))


def _means(y: NDArray[np.float64], groups: Codes) -> Any:
    """Each row's mean over its group; -1, a missing value, is a group."""
    shifted = groups + 1
    counts = np.bincount(shifted)
    return (np.bincount(shifted, weights=y) / np.maximum(counts, 1))[shifted]
