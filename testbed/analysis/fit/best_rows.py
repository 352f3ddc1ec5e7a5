"""The best row of each design, where a table holds a sweep of settings such as learning rates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit.diagnostics.differences import condition
from testbed.analysis.fit.settings import Codes, Settings, codes_of, design_columns, is_seed, is_tuned, joined
from testbed.analysis.fit.targets import above_zero
from testbed.analysis.laws import Law, find_law
from testbed.errors import TableError
from testbed.points import COLUMNS, fit_columns, map_columns
from testbed.points.expressions import quoted
from testbed.points.numbers import column_of

Array = NDArray[np.float64]

_KINDS = re.compile(
    r"data|corpus|corpora|task|domain|lang|arch|model|famil|tokeni|split|eval|variant|bench", re.IGNORECASE
)


@dataclass(frozen=True)
class BestRows:
    """The rows that are kept, in the table's order, and sentences that say what they were chosen over."""

    rows: pd.DataFrame
    notes: tuple[str, ...]


def best_rows(
    law: Law | str,
    data: pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    where: str = "the table",
    by: str | None = None,
) -> BestRows:
    """The rows of the best response at each design of `law`: the lowest loss, or the highest of what rises (accuracy).

    Where rows of one design differ in a setting (learning rate, batch) and in a seed, the setting of the best mean is
    kept with all its seeds: the luckiest seed is no better run. A response that is missing is never the best. With `by`
    each value of that column has its own best.

    >>> cells = [(n, d, lr) for n in (1e7, 1e8) for d in (1e9, 1e10) for lr in (1e-3, 2e-3, 4e-3)]
    >>> table = pd.DataFrame(cells, columns=["n", "tokens", "lr"])
    >>> table["loss"] = 2 + 300 / table["n"] ** 0.3 + 1000 / table["tokens"] ** 0.3 + (table["lr"] - 2e-3).abs()
    >>> best = best_rows("hoffmann", table)
    >>> len(best.rows), set(best.rows["lr"])
    (4, {0.002})

    Raises:
        TableError: The table lacks a column of the law, has values that the law does not take, or nothing to choose among;
            or its rows differ in data or architecture too, whose losses are not to be compared.
    """
    law = find_law(law) if isinstance(law, str) else law
    mapping = map_columns(data, (*law.columns, law.response), columns or {}, where)
    known, lost = _with_response(data, mapping[law.response])
    points = fit_columns(known, mapping, where, positive=above_zero(law, law.space))
    cells = codes_of(points[design_columns(law)])
    if by is not None:
        cells = joined(cells, np.asarray(pd.factorize(column_of(known, by, where))[0], np.intp))
    if int(cells.max()) + 1 == len(cells):
        raise TableError(
            f"{where}: every row is a design of its own ({', '.join(design_columns(law))}), so there is nothing to choose the "
            "best of; leave out --best, or round the columns with --column NAME=EXPRESSION"
        )
    settings = Settings.of(known, points, law, mapping)
    names = tuple(name for name in settings.names if name != by)
    _check_comparable(known, names, where)
    seeds = [name for name in known if isinstance(name, str) and is_seed(name) and known[name].nunique() > 1]
    falls = _falls(law.response)
    y = points[law.response].to_numpy(np.float64) * (1.0 if falls else -1.0)
    if not names and seeds:
        note = f"--best: rows of one design differ in {', '.join(seeds)} only, so all {len(known)} are kept: a seed is not chosen"
        return BestRows(known, (note,))
    tried = np.arange(len(known)) if settings.codes is None or not seeds else joined(cells, settings.codes)
    kept = _lowest(cells, np.asarray(tried, np.intp), y)
    notes = _notes(known, names, cells, kept, "lowest" if falls else "highest", law.response, lost)
    return BestRows(known[kept], notes)


def _check_comparable(known: pd.DataFrame, names: tuple[str, ...], where: str) -> None:
    """Refuse to choose among data or architectures, whose losses are not of one kind."""
    for name in names:
        if _KINDS.search(name) and not is_tuned(name) and not pd.api.types.is_numeric_dtype(known[name].dtype):
            values = ", ".join(map(str, known[name].dropna().unique()[:3]))
            raise TableError(
                f"{where}: rows of one design differ in {name} ({values}), and --best would choose among them; fit one at a time "
                f'with --where "{condition(name, known)}", or each with --by {quoted(name)}'
            )


def _falls(response: str) -> bool:
    """Whether a lower response is better; that of a column that is not described is taken for a loss."""
    return all(each.falls or each.name != response for each in COLUMNS)


def _with_response(data: pd.DataFrame, source: str) -> tuple[pd.DataFrame, int]:
    """The rows whose response is a number, and how many are not."""
    if source not in data.columns:
        return data, 0
    values = pd.to_numeric(data[source], errors="coerce")
    good = np.isfinite(values.to_numpy(np.float64))
    return (data[good], int((~good).sum())) if good.any() else (data, 0)


def _lowest(cells: Codes, tried: Codes, y: Array) -> NDArray[np.bool_]:
    """The rows [rows] of the setting of lowest mean in each design."""
    mean = (np.bincount(tried, weights=y) / np.maximum(np.bincount(tried), 1))[tried]
    order = np.lexsort((np.arange(len(y)), mean, cells))
    first = order[np.concatenate([[True], np.diff(cells[order]) != 0])]
    best = np.zeros(int(cells.max()) + 1, np.intp)
    best[cells[first]] = tried[first]
    return np.asarray(tried == best[cells], bool)


def _notes(
    known: pd.DataFrame,
    names: tuple[str, ...],
    cells: Codes,
    kept: NDArray[np.bool_],
    which: str,
    response: str,
    lost: int,
) -> tuple[str, ...]:
    designs = int(cells.max()) + 1
    over = f" of {', '.join(names)}" if names else ""
    notes = [
        f"--best: {int(kept.sum())} of {len(known)} rows kept, the {which} {response} of each of {designs} designs; chosen over "
        f"{int((~kept).sum())} other rows{over}" + (f" ({lost} rows without a {response} left out)" if lost else "")
    ]
    for name in names:
        values = known[name]
        if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
            by_design = values.groupby(cells)
            low, high = (by_design.transform(end).to_numpy() for end in ("min", "max"))
            at = values.to_numpy()
            edge = kept & (low < high) & ((at == low) | (at == high))
            chosen = at[kept]
            notes.append(
                f"  {name}: best at {chosen.min():.3g} to {chosen.max():.3g}, tried {at.min():.3g} to {at.max():.3g}"
            )
            if edge.any() and values.groupby(cells).nunique().max() > 2:
                count = len(np.unique(cells[edge]))
                notes.append(
                    f"  at {count} of {designs} designs the best {name} is the least or the largest that was tried, so a better "
                    "one may lie beyond"
                )
        else:
            counts = values[kept].astype(str).value_counts()
            notes.append(
                f"  {name}: best {', '.join(f'{value} ({times}x)' for value, times in counts.head(5).items())}"
            )
    return tuple(notes)
