"""Chooses a table's column for each column that a law needs: by name, by what the values can be, by the unit stated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.errors import TableError
from testbed.points.columns import column_named
from testbed.points.expressions import columns_of, parse, quoted
from testbed.points.headers import Header, Unit, header
from testbed.points.numbers import column_of, listed, short, to_floats
from testbed.points.plausibility import NO_NUMBERS, impossible
from testbed.points.vocabulary import is_rate, meaning, split_of
from testbed.points.wide import shape_hint

_LOSSES = ("loss", "bpb", "perplexity")
_UNSPELLED = 1000
_LIKE = (0.1, 30.0)  # one count of a model's parameters over another, embeddings in or out


@dataclass(frozen=True)
class ColumnChoice:
    """A column that could be the one looked for; the one of least `rank` is taken."""

    source: str
    rank: tuple[float, ...]
    unit: Unit | None
    spelling: str
    doubt: str = ""  # why it cannot be, though its name says so


class Finder:
    """Looks up columns of one table; `given` says which columns (or expressions) the user named, by canonical names."""

    def __init__(self, table: pd.DataFrame, given: Mapping[str, str], where: str) -> None:
        self.table, self.given, self.where = table, dict(given), where
        self.notes: dict[str, str] = {}
        self.alike: dict[str, list[str]] = {}  # plain spelling -> the table's columns
        self.inside: dict[str, list[str]] = {}  # the same without units and what a column is nested in
        for name in dict.fromkeys(name for name in table.columns if isinstance(name, str)):
            if len(plain(name)) > 2:  # of one or two letters the case matters: N, D, n, d
                self.alike.setdefault(plain(name), []).append(name)
            said = self._headers[name]
            bare = self._letter(name, said) if len(said.plain) == 1 else said.plain
            if bare and (said.unit is not None or said.plain != plain(name)):
                self.inside.setdefault(bare, []).append(name)

    @cached_property
    def _headers(self) -> dict[str, Header]:
        return {name: header(name) for name in self.table.columns if isinstance(name, str)}

    def column(self, name: str) -> str:
        """The column or expression for `name`; TableError if there is none."""
        found = self.find(name) or self._derived(name) or self._last(name)
        if found is None:
            raise self.nothing_for(name)
        return found

    def find(self, name: str) -> str | None:
        """What is given for `name`, else the table's column of one of its names; None if there is neither."""
        if name in self.given:
            return self._stated(name, self.given[name])
        for expression in column_named(name).sums:
            if all(each in self.table.columns for each in columns_of(parse(expression, self.where))):
                return expression
        good = [each for each in self.candidates(name) if not each.doubt and not self._weak(name, each)]
        own = next((each for each in good if each.source == name == "n"), None)
        if own is not None and own is not good[0] and self._alike(own, good[0]):
            good.sort(key=lambda each: each is not own)
        return self._taken(name, good) if good else None

    def candidates(self, name: str) -> list[ColumnChoice]:
        """The columns that could be `name`, the best first."""
        found: dict[str, ColumnChoice] = {}
        for index, spelling in enumerate(column_named(name).names):
            exact = [spelling] if spelling in self.table.columns else []
            letter = len(plain(spelling)) < 3
            inside = self.inside.get(spelling if letter else plain(spelling), [])
            for level, sources in enumerate((exact, [] if letter else self.alike.get(plain(spelling), []), inside)):
                for source in sources:
                    found.setdefault(source, self._candidate(name, source, (index, level), spelling))
        for source, said in self._headers.items():
            extra = meaning(name, said) if source not in found else None
            if extra is not None:
                found[source] = self._candidate(name, source, (_UNSPELLED * (1 + extra), len(said.words)), "")
        return sorted((each for each in found.values() if each.doubt != "foreign"), key=lambda each: each.rank)

    def nothing_for(self, name: str) -> TableError:
        """The error for a column that is nowhere: what was looked for, what there is, what would mend it."""
        looked = (short(self.given[name]),) if name in self.given else column_named(name).names
        doubted = [] if name in self.given else [each for each in self.candidates(name) if each.doubt]
        doubts = "".join(f"; {short(each.source)} {each.doubt}, which is no {name}" for each in doubted[:3])
        return TableError(
            f"{self.where}: no column for {name} (looked for {', '.join(looked)}); the table has "
            f"{listed(self.table)}{doubts}; name one with {option(name)}{self._shape(name)}"
        )

    def raw(self, name: str) -> str:
        """The column for `name` without the factor of its unit; TableError where it is given or derived by an expression."""
        source = self.given[name] if name in self.given else next((c.source for c in self._chosen(name)), None)
        if source is None or source not in self.table.columns:
            raise self.nothing_for(name)
        return source

    def _chosen(self, name: str) -> list[ColumnChoice]:
        all_of = self.candidates(name)
        return [each for each in all_of if not each.doubt] or all_of

    def _candidate(self, name: str, source: str, rank: tuple[float, ...], spelling: str) -> ColumnChoice:
        said = self._headers[source]
        unit = said.unit if self._has_unit(name, source, spelling) else None
        split = split_of(said.words) if name in _LOSSES else 0
        letter = len(said.plain) == 1
        if unit is not None and (not fits_unit(name, unit) or (name == "flops" and is_rate(said))):
            return ColumnChoice(source, rank, None, spelling, "foreign")
        single = list(self.table.columns).count(source) == 1
        doubt = (
            impossible(name, said.plain, self.table[source], unit.factor if unit else 1.0)
            if single and len(self.table)
            else ""
        )
        return ColumnChoice(source, (split, letter, *rank), unit, spelling, doubt)

    def _has_unit(self, name: str, source: str, spelling: str) -> bool:
        """Whether the unit in a header is one of this column's values: not where the whole header is a usual spelling."""
        unit = self._headers[source].unit
        said = unit is not None and (plain(source) != plain(spelling) or not plain(unit.text))
        return said and takes_unit(name)

    def _weak(self, name: str, each: ColumnChoice) -> bool:
        """Whether a candidate is taken only where nothing else is there: a training loss, a name with unknown words."""
        return name in _LOSSES and (each.rank[0] == 2 or each.rank[2] >= 2 * _UNSPELLED)

    def _last(self, name: str) -> str | None:
        """What is taken where there is nothing better: a training loss, a size that is too small to be one."""
        if name in self.given:
            return None
        left = self.candidates(name)
        good = [each for each in left if not each.doubt]
        good = good or [each for each in left if name in ("n", "tokens") and each.doubt != NO_NUMBERS]
        good = good or [each for each in left if each.doubt == NO_NUMBERS]
        return self._taken(name, good) if good else None

    def _taken(self, name: str, candidates: list[ColumnChoice]) -> str:
        """The source of the first candidate, with its factor; TableError where another is as good and differs."""
        best = candidates[0]
        column_of(self.table, best.source, self.where)
        spelled, known = best.rank[2] < _UNSPELLED, best.rank[2] < 2 * _UNSPELLED
        level = best.rank if spelled else best.rank[:3] if known else best.rank[:2]
        equal = [each for each in candidates if each.rank[: len(level)] == level]
        if not all(self._same(best, other) for other in equal[1:]):
            raise TableError(
                f"{self.where}: {_several([each.source for each in equal])} could each be {name}; name one with {option(name)}"
            )
        self._tell(name, best, candidates)
        return self._scaled(best.source, best.unit)

    def _tell(self, name: str, best: ColumnChoice, candidates: list[ColumnChoice]) -> None:
        """Note a second loss, and columns that were passed over because they cannot be what their name says."""
        if name == "loss":
            others = [
                each.source
                for each in self.candidates(name)
                if each.source != best.source and not each.doubt and each.rank[2] < 2 * _UNSPELLED
            ]
            if others:
                self.notes[name] = (
                    f"loss is {best.source}; the table also has {_several(others)}: --loss {quoted(others[0])} takes that"
                )
        for each in self.candidates(name):
            if each.doubt and each.source != best.source and each.doubt != NO_NUMBERS:
                self.notes[f"{name}, {each.source}"] = f"{each.source} {each.doubt}: not taken for {name}"

    def _alike(self, own: ColumnChoice, other: ColumnChoice) -> bool:
        """Whether a column `n` counts what a longer name counts, with or without embeddings: then it is what was meant."""
        a, b = (self._values(each) for each in (own, other))
        with np.errstate(all="ignore"):
            return bool(((a / b > _LIKE[0]) & (a / b < _LIKE[1])).all())

    def _values(self, each: ColumnChoice) -> NDArray[np.float64]:
        column = column_of(self.table, each.source, self.where)
        return to_floats(column, counts=True) * (each.unit.factor if each.unit else 1.0)

    def _same(self, first: ColumnChoice, second: ColumnChoice) -> bool:
        """Whether two columns hold the same numbers, in whatever units."""
        a, b = (self._values(each) for each in (first, second))
        return len(a) > 0 and bool(np.allclose(a, b, rtol=1e-3, equal_nan=True))

    def _scaled(self, source: str, unit: Unit | None) -> str:
        """The column times the factor of its unit, unless its values say their own ("7B")."""
        if unit is None or unit.factor == 1 or np.isnan(to_floats(self.table[source], counts=False)).all():
            return source
        return f"{quoted(source)} * {factor_text(unit.factor)}"

    def _stated(self, name: str, source: str) -> str | None:
        if source in self.table.columns:
            column_of(self.table, source, self.where)
            unit = self._headers[source].unit if isinstance(source, str) else None
            fits = unit is not None and takes_unit(name) and fits_unit(name, unit) and not self._usual(name, source)
            if name == "loss" and meaning("perplexity", header(source)) == 0:
                self.notes[name] = f"{source} is exp(loss): --loss 'log({quoted(source)})' fits the loss"
            return self._scaled(source, unit) if fits else source
        try:
            needed = columns_of(parse(source, self.where))
        except TableError:
            return None
        return source if needed and all(each in self.table.columns for each in needed) else None

    def _usual(self, name: str, source: str) -> bool:
        """Whether the whole header, unit and all, is one of the usual spellings."""
        return not all(self._has_unit(name, source, spelling) for spelling in column_named(name).names)

    def _derived(self, name: str) -> str | None:
        if name in self.given:
            return None
        for template in column_named(name).derived:
            sources = {needed: self._part(needed) for needed in columns_of(parse(template, self.where))}
            if all(sources.values()):
                if name == "loss":
                    source = next(iter(sources.values()))
                    said = (
                        "in bits/byte, not nats/token"
                        if template == "bpb"
                        else f"{template.replace('perplexity', str(source))}"
                    )
                    self.notes[name] = f"loss is {said}: the table has no loss but {source}"
                return self._written(template, sources)
        return None

    def _part(self, name: str) -> str | None:
        return self.find(name) or (None if name in _LOSSES else self._last(name))

    def _written(self, template: str, sources: Mapping[str, str | None]) -> str:
        """The template with canonical names replaced by the table's columns, or by expressions for them."""
        if template in sources:
            return str(sources[template])
        written = {
            name: quoted(source) if source in self.table.columns else f"({source})"
            for name, source in sources.items()
            if source is not None
        }
        return re.sub(r"[a-z_]+", lambda match: written.get(match[0], match[0]), template)

    def _shape(self, name: str) -> str:
        """What is wrong with the table's shape, where a size or the loss is missing that was not given."""
        if name in self.given or name not in ("n", "tokens", "loss"):
            return ""
        return shape_hint(self.table, lambda other: self.find(other) is not None, self.where)

    def _letter(self, name: str, said: Header) -> str:
        """The letter of a name such as N (B) or D_M, in its case; "" where it may be another, as in n_b."""
        first = re.search(r"[^\W\d_]", name)
        suffix = re.fullmatch(r"[^\W\d_]_([a-z]+)", name)  # n_b may be a number of batches
        return "" if first is None or (suffix and len(suffix[1]) == 1) else first[0]


def takes_unit(name: str) -> bool:
    """Whether a factor in a header is read for this column: it is a count, a loss or a share."""
    return column_named(name).count or name in _LOSSES or column_named(name).range == (0, 1)


def fits_unit(name: str, unit: Unit) -> bool:
    """Whether a unit can be one of this column: powers of ten of counts, bits of losses, percents of shares."""
    if name in _LOSSES:
        return unit.factor in (1.0, math.log(2))
    return unit.factor in (1.0, 0.01) if column_named(name).range == (0, 1) else unit.factor == 1 or unit.factor >= 1e3


def factor_text(factor: float) -> str:
    """A factor for an expression: 1e9, or all digits of one that is no power of ten."""
    power = round(math.log10(factor)) if factor > 0 else 0
    return f"1e{power}" if factor == 10.0**power and power > 2 else f"{factor!r}"


def option(name: str) -> str:
    """The command-line option that names a column for `name`."""
    flag = column_named(name).option
    return f"--column {name}=COLUMN" if flag is None else f"{flag} COLUMN"


def plain(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[\W_]", "", name).lower()


def _several(names: list[str]) -> str:
    shown = [short(name) for name in names[:6]]
    more = [f"{len(names) - 6} more"] if len(names) > 6 else []
    return " and ".join([", ".join([*shown, *more][:-1]), [*shown, *more][-1]]) if len(names) > 1 else shown[0]
