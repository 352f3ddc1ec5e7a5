"""Warnings about further columns of a table: what rows of one design differ in, and what explains the residuals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import fdtrc

from testbed.analysis.fit.diagnostics.finding import Finding, finding
from testbed.analysis.fit.diagnostics.refits import Refits
from testbed.analysis.fit.diagnostics.residuals import FLOOR
from testbed.analysis.fit.estimate import Estimate, robust_sd
from testbed.analysis.fit.settings import Codes, candidates, codes_of, design_columns, is_tuned
from testbed.analysis.laws import Law
from testbed.points import column_named
from testbed.points.expressions import quoted

Array = NDArray[np.float64]

_RARE = 1e-3  # chance of a column that explains residuals where none does
_SHARE = 0.5  # of the residuals' variance, from which a column is named
_MOST_GROUPS = 12
_FAR = 6.0  # robust standard deviations, beyond which a residual counts as that


def difference_findings(refits: Refits, raw: pd.DataFrame | None) -> Iterator[Finding]:
    """Rows of one design that differ in more than a seed, and the further column that explains most of the residuals."""
    fit = refits.fit
    explained = {} if raw is None else _explained(refits, raw)
    yield from rows_differ(fit, raw, explained)
    others = {name: share for name, share in explained.items() if name not in fit.differs}
    if others and raw is not None and not set(explained) & set(fit.differs):
        name = max(others, key=lambda each: others[each])
        evidence: dict[str, float | str] = {"column": name, "share": others[name]}
        yield finding(
            "explained-by", evidence, column=name, share=_percent(others[name]), remedy=_remedy(fit, name, raw)
        )


def rows_differ(
    fit: Estimate, raw: pd.DataFrame | None = None, explained: dict[str, float] | None = None
) -> Iterator[Finding]:
    """Rows of one design that differ in more than a seed; without the whole table no values can be named."""
    if fit.settings is None:
        return
    cells = codes_of(fit.points[design_columns(fit.law)])
    several = pd.Series(fit.settings).groupby(cells).transform("nunique").to_numpy() > 1
    rows, designs = int(several.sum()), len(np.unique(cells[several]))
    evidence: dict[str, float | str] = {
        "rows": float(rows),
        "designs": float(designs),
        "columns": ", ".join(fit.differs),
    }
    shares = {name: share for name, share in (explained or {}).items() if name in fit.differs}
    worst = max(shares, key=lambda each: shares[each], default=None)
    clause = ""
    if worst is not None:
        clause = f" ({worst} explains {_percent(shares[worst])} of what the law leaves over)"
        evidence |= {"column": worst, "share": shares[worst]}
    tuned = [name for name in fit.differs if is_tuned(name) and not _is_text(name, raw)]
    remedies = [_best(tuned, raw)] if tuned else []
    remedies += [_remedy(fit, name, raw) for name in fit.differs if name not in tuned]
    yield finding(
        "rows-differ",
        evidence,
        rows=rows,
        designs=f"{designs} design{'s' * (designs != 1)}",
        columns=_listed(fit.differs),
        explained=clause,
        remedy="; ".join(dict.fromkeys(remedies)),
    )


def _explained(refits: Refits, raw: pd.DataFrame) -> dict[str, float]:
    """The share of the residuals' variance that a fit for each value of a column would explain, where it is large."""
    fit = refits.fit
    if fit.nobs != len(fit.points) or len(refits.rows) < fit.nobs or {"run", "step"} & set(fit.law.columns):
        return {}
    spread = robust_sd(refits.residuals)
    if spread <= FLOOR * (1.0 if fit.space == "log" else float(np.abs(fit.rows.y).max())):
        return {}
    limit = _FAR * spread if spread > 0 else np.inf
    residuals = np.clip(refits.residuals, -limit, limit)
    slopes = np.asarray(fit.problem.coordinates.slopes(fit.phi[None], fit.problem.columns)[0].T, np.float64)
    slopes = slopes / np.maximum(np.sqrt((slopes**2).sum(axis=0)), 1e-300)
    found = {}
    tried = [(name, values) for name, values in candidates(raw, fit.columns) if not _an_axis(values, refits)]
    for name, values in tried:
        groups = np.unique(values, return_inverse=True)[1]
        if not 2 <= groups.max() + 1 <= min(_MOST_GROUPS, len(groups) // 3):
            continue
        share, chance = _by_group(residuals, slopes, groups)
        if share > _SHARE and chance < _RARE / len(tried):
            found[name] = share
    return found


def _by_group(residuals: Array, slopes: Array, groups: Codes) -> tuple[float, float]:
    """The share of the residuals' variance [rows] that a constant and slopes for each group explain, and its chance.

    To first order that is a fit for each group. Where a group has too few rows for that, the groups have a constant each.
    """
    n, p = slopes.shape
    count = np.bincount(groups)
    own = np.eye(len(count))[groups]
    wide = count.min() >= p + 3
    parts = own[:, :, None] * np.column_stack([np.ones(n), slopes])[:, None] if wide else own
    whole = np.column_stack([np.ones(n), slopes])
    finer = parts.reshape(n, -1) if wide else np.column_stack([own, slopes])
    (before, rank), (after, finer_rank) = _left(residuals, whole), _left(residuals, finer)
    freedom, more = n - finer_rank, finer_rank - rank
    if freedom < 1 or more < 1 or before <= 0:
        return 0.0, 1.0
    share = 1 - (after / freedom) / (before / (n - rank))
    ratio = (before - after) / more / max(after / freedom, 1e-300)
    return share, float(fdtrc(more, freedom, ratio))


def _left(y: Array, design: Array) -> tuple[float, int]:
    """The sum of squares that a regression on a design's columns leaves, and its rank."""
    basis, sizes, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, sizes > 1e-10 * sizes[0]]
    rest = y - basis @ (basis.T @ y)
    return float(rest @ rest), basis.shape[1]


def _an_axis(values: Codes, refits: Refits) -> bool:
    """Whether the values of a column follow each other along a column of the law, D/N or compute: then it is no other thing."""
    domain = refits.domain
    axes = [*domain.rows.T, *(axis for axis in (domain.ratio, domain.compute) if axis is not None)]
    least = len(np.unique(values)) - 1
    return any(int((np.diff(values[np.lexsort((values, axis))]) != 0).sum()) == least for axis in axes)


def _remedy(fit: Estimate, name: str, raw: pd.DataFrame | None) -> str:
    """The command that mends rows that differ in this column."""
    law: Law = fit.law
    if any(name in column_named(each).names for each in ("unique_tokens", "epochs")):
        return "take a law that knows repeated data: --law muennighoff"
    for size in ("n", "tokens"):
        if size not in law.columns and name in column_named(size).names:
            return f"take a law that knows {name}: --law hoffmann"
    if is_tuned(name) and not _is_text(name, raw):
        return _best([name], raw)
    where = f'--where "{condition(name, raw)}"'
    exponents = ",".join(p.name for p in law.parameters if p.role == "exponent" and p.name not in fit.fixed)
    shared = f", or with shared exponents --by {quoted(name)} --share {exponents}" if exponents else ""
    best = "; if it was tuned, keep the best of each: --best" if is_tuned(name) or _is_scale(name, raw) else ""
    return f"fit one at a time with {where}, each by itself with --by {quoted(name)}{shared}{best}"


def _best(names: list[str], raw: pd.DataFrame | None) -> str:
    """The command for rows that differ in settings that people tune."""
    repeated = [name for name in names if raw is None or name not in raw or raw[name].value_counts().max() > 1]
    where = " and ".join(condition(name, raw) for name in repeated)
    return "keep the best of each (--best)" + (f', or choose with --where "{where}"' if where else "")


def condition(name: str, raw: pd.DataFrame | None) -> str:
    """An expression that keeps the rows of a column's most frequent value."""
    if raw is None or name not in raw:
        return f"{quoted(name)} == VALUE"
    value: Any = raw[name].mode(dropna=True).iloc[0]
    if isinstance(value, (bool, np.bool_)):
        return f"{quoted(name)} == {str(bool(value)).lower()}"
    if isinstance(value, str):
        mark = '"' if "'" in value else "'"
        return f"{quoted(name)} == {mark}{value}{mark}"
    return f"{quoted(name)} == {value.item() if isinstance(value, np.generic) else value}"


def _is_text(name: str, raw: pd.DataFrame | None) -> bool:
    return raw is not None and name in raw and not pd.api.types.is_numeric_dtype(raw[name].dtype)


def _is_scale(name: str, raw: pd.DataFrame | None) -> bool:
    """Whether a column holds numbers of more than two values, so that it may have been tuned."""
    return raw is not None and name in raw and not _is_text(name, raw) and raw[name].nunique() > 2


def _percent(share: float) -> str:
    return f"{min(100 * share, 99):.0f} %"


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
