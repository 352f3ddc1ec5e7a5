"""Warnings from the table itself: how its rows came about, what was counted, and in which unit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit.coordinates import Coordinates
from testbed.analysis.fit.diagnostics.finding import Finding, finding
from testbed.analysis.fit.diagnostics.refits import Refits
from testbed.analysis.fit.diagnostics.unfinished import unfinished
from testbed.analysis.fit.estimate import Estimate
from testbed.analysis.fit.problem import Problem
from testbed.analysis.fit.resampling import Rows
from testbed.analysis.fit.settings import as_expression
from testbed.analysis.fit.solver import follow
from testbed.errors import TableError
from testbed.points import column_named
from testbed.points.expressions import columns_of, parse, quoted

Array = NDArray[np.float64]

FEW_RUNS = 12
_IN_ORDER = 4  # points of one size, with ever more tokens, that look like checkpoints of a run
_APART = 1.25  # times as many tokens, that neighbouring horizons of a grid of runs have at least
_SMALL = 1e8  # parameters below which embeddings are a large share
_NATS = (1.0, 12.0)  # between which a median loss in nats/token lies
_OTHER_UNITS = re.compile(r"bpb|bpc|bits|ppl|perplexity|normali[sz]ed")
_MID_PHASE = re.compile(r"stable|hot|decaying|warm|constant|mid")
_FRACTIONS = ("frac_of_run", "fraction_of_run", "run_fraction")
_ONCE = 1.05  # epochs, from which data counts as repeated
_FRESH = 4  # epochs up to which repeated tokens are worth about as much as new ones (arXiv:2305.16264)
_PATH = (np.inf, 3e-2, 6e-3)  # Huber widths from which a start that is far off is led to the optimum
_ANNEALED = 0.05  # of the peak learning rate, at which a run's schedule has ended


def source_findings(refits: Refits, raw: pd.DataFrame | None) -> Iterator[Finding]:
    """Warnings from the fitted columns and, with the `raw` table (the fit's rows, all columns), from the other ones."""
    fit = refits.fit
    if raw is not None and len(raw) != len(fit.points):
        raise TableError(
            f"diagnostics: the raw table has {len(raw)} rows and the fit {len(fit.points)}; give the table that was fitted"
        )
    curves = bool({"run", "step"} & set(fit.law.columns))  # a law of whole curves wants every step
    yield from _few_runs(fit)
    if not curves:
        yield from _checkpoints(fit)
    yield from _duplicates(fit)
    yield from _unit(fit)
    yield from _compute(fit, raw)
    if raw is not None:
        if not curves and "lr_sum" not in fit.law.columns:
            yield from _mid_schedule(fit, raw)
        yield from _embeddings(refits, raw)
        if not curves:
            yield from unfinished(fit, raw)
        yield from _repeats(fit, raw)


def _few_runs(fit: Estimate) -> Iterator[Finding]:
    if fit.n_runs < FEW_RUNS:
        case = "one" if fit.n_runs == 1 else ""
        yield finding("few-runs", {"runs": float(fit.n_runs)}, case, runs=fit.n_runs, enough=FEW_RUNS)


def _checkpoints(fit: Estimate) -> Iterator[Finding]:
    points = len(fit.points)
    if 1 < fit.n_runs < points:
        evidence = {"points": float(points), "runs": float(fit.n_runs), "within_run_correlation": _together(fit, "run")}
        yield finding("checkpoints-as-runs", evidence, points=points, runs=fit.n_runs)
    elif "run" not in fit.columns and {"n", "tokens"} <= set(fit.law.columns):
        if _full_grid(fit.points):
            return
        suspicious = _in_order(fit.points["n"].to_numpy(), fit.points["tokens"].to_numpy())
        if 2 * suspicious > points:
            evidence = {
                "points": float(points),
                "in_order": float(suspicious),
                "sizes": float(fit.points["n"].nunique()),
                "within_size_correlation": _together(fit, "n"),
            }
            yield finding("checkpoints-as-runs", evidence, "no column", in_order=suspicious, points=points)


def _full_grid(points: pd.DataFrame) -> bool:
    """Whether every size has the same few tokens, spread by ratios: a grid of runs, sorted by size."""
    tokens = np.unique(points["tokens"])
    sizes = int(points["n"].nunique())
    pairs = len(points[["n", "tokens"]].drop_duplicates())
    ratios = tokens[1:] / tokens[:-1]
    return sizes > 1 and pairs == sizes * len(tokens) and len(ratios) > 0 and bool(ratios.min() >= _APART)


def _in_order(n: Array, tokens: Array) -> int:
    """Points whose size has at least _IN_ORDER of them, with ever more tokens."""
    order = np.argsort(n, kind="stable")
    size = np.unique(n[order], return_inverse=True)[1]
    back = np.flatnonzero((np.diff(size) == 0) & (np.diff(tokens[order]) <= 0))
    count = np.bincount(size)
    rising = (count >= _IN_ORDER) & (np.bincount(size[back], minlength=len(count)) == 0)
    return int(count[rising].sum())


def _duplicates(fit: Estimate) -> Iterator[Finding]:
    columns = [name for name in fit.points if name != "run"]
    again = fit.points.duplicated(subset=columns).to_numpy()
    if again.any() and "run" not in fit.law.columns:
        rows, first = int(again.sum()), int(np.flatnonzero(again)[0]) + 1
        yield finding("duplicates", {"rows": float(rows), "first_row": float(first)}, rows=rows, first=first)


def _unit(fit: Estimate) -> Iterator[Finding]:
    if fit.law.response != "loss":
        return
    column = fit.columns.get("loss", "loss")
    median = float(fit.points["loss"].median())
    named = _OTHER_UNITS.search(column.lower())
    if named or not _NATS[0] <= median <= _NATS[1]:
        why = f"its column is {column}" if named else f"its median is {median:.3g}"
        yield finding("unit", {"column": column, "median": median}, why=why)


def _compute(fit: Estimate, raw: pd.DataFrame | None) -> Iterator[Finding]:
    """N or D that was computed from the other and FLOPs."""
    for name, other in (("tokens", "n"), ("n", "tokens")):
        source = fit.columns.get(name)
        if source is None or (raw is not None and source in raw.columns):
            continue
        try:
            used = columns_of(parse(source, "the fit"))
        except TableError:
            continue
        if any(column in column_named("flops").names for column in used):
            evidence = {"column": name, "expression": source}
            yield finding(
                "C-definition", evidence, column=name, source=source, other=other, option=column_named(name).option
            )


def _mid_schedule(fit: Estimate, raw: pd.DataFrame) -> Iterator[Finding]:
    for sign, mid, keep in _signs_of_a_schedule(fit, raw):
        if mid.any():
            rows, whole = int(mid.sum()), len(raw)
            evidence: dict[str, float | str] = {"rows": float(rows), "of": float(whole), "sign": sign}
            yield finding("mid-schedule", evidence, rows=rows, whole=whole, sign=sign, keep=keep)
            return


def _repeats(fit: Estimate, raw: pd.DataFrame) -> Iterator[Finding]:
    """Rows that saw their data more than once, under a law that does not know of it."""
    if {"unique_tokens", "epochs"} & set(fit.law.columns) or "tokens" not in fit.law.columns:
        return
    epochs = next((name for name in column_named("epochs").names if name in raw), None)
    unique = next((name for name in column_named("unique_tokens").names if name in raw), None)
    if unique is not None and unique not in fit.columns.values():
        times = fit.points["tokens"].to_numpy() / _numbers(raw[unique])
        keep = f"{as_expression(fit.columns.get('tokens', 'tokens'))} <= {_FRESH:g} * {quoted(unique)}"
    elif epochs is not None and epochs not in fit.columns.values():
        times, keep = _numbers(raw[epochs]), f"{quoted(epochs)} <= {_FRESH:g}"
    else:
        return
    rows = int((times > _ONCE).sum())
    if rows:
        most = float(np.nanmax(times))
        evidence: dict[str, float | str] = {"rows": float(rows), "most_epochs": most, "where": keep}
        yield finding("repeated-data", evidence, rows=rows, whole=len(raw), most=most, law=fit.law.name, keep=keep)


def _signs_of_a_schedule(fit: Estimate, raw: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_], str]]:
    """Each sign that rows are from the middle of a run, with the rows that have it [rows], and how to leave them out."""
    if "phase" in raw and set(raw["phase"]) <= {"annealed"}:
        return
    if "phase" in raw:
        phase = raw["phase"].astype(str).str.lower()
        mid = phase.str.contains(_MID_PHASE).to_numpy(bool)
        ended = sorted(set(raw["phase"][~mid].astype(str)))[:3]
        yield (
            f"phase {', '.join(sorted(set(phase[mid]))[:3])}",
            mid,
            f'--where "phase in ({", ".join(map(repr, ended))})"',
        )
    for name in _FRACTIONS:
        if name in raw:
            yield f"{name} below 1", _numbers(raw[name]) < 1 - 1e-6, f'--where "{name} >= 1"'
    if "is_final" in raw:
        final = "is_final" if pd.api.types.is_bool_dtype(raw["is_final"].dtype) else "is_final == 1"
        yield "not is_final", _numbers(raw["is_final"]) == 0, f'--where "{final}"'
    if "step" in raw and "total_steps" in raw:
        mid = _numbers(raw["step"]) < 0.99 * _numbers(raw["total_steps"])
        yield "step below total_steps", mid, '--where "step >= 0.99 * total_steps"'
    rates = column_named("lr_at_step").names
    lr = next((name for name in rates if name in raw), None)
    if lr is not None and lr not in (fit.columns.get("lr_at_step"), fit.columns.get("peak_lr")):
        now = _numbers(raw[lr])
        peaks = (name for name in column_named("peak_lr").names if name not in rates)
        named = next((name for name in peaks if name in raw), None)
        peak = None if named is None else _numbers(raw[named])
        keep = (
            f'--where "{quoted(lr)} <= {_ANNEALED:g} * {quoted(named)}"' if named else "keep the last row of each run"
        )
        if peak is None:
            within = pd.Series(now).groupby(fit.points["run"].to_numpy())
            peak = np.where(within.transform("nunique") > 1, within.transform("max"), np.nan)
        yield f"{lr} above {100 * _ANNEALED:g} % of its peak", now > _ANNEALED * peak, keep


def _embeddings(refits: Refits, raw: pd.DataFrame) -> Iterator[Finding]:
    fit = refits.fit
    used = fit.columns.get("n")
    if used is None or used not in raw:
        return
    other = other_count(raw, used)
    if other is None:
        smallest = float(fit.points["n"].min())
        if smallest < _SMALL and used != "n" and not re.search("embed|total", used.lower()):
            facts: dict[str, float | str] = {"column": used, "smallest": smallest}
            yield finding("embedding-count", facts, "one", column=used, smallest=smallest)
        return
    moved = {
        name: (fit.theta[name], value)
        for name, value in _refitted(refits, _numbers(raw[other])).items()
        if name in {fit.problem.coordinates.free[k].name for k in refits.watched}
    }
    if any(abs(after - before) > 0.01 * abs(before) for before, after in moved.values()):
        shown = ", ".join(f"{name} {before:.3g} against {after:.3g}" for name, (before, after) in moved.items())
        evidence: dict[str, float | str] = {"column": used, "other": other}
        evidence |= {name: before for name, (before, _) in moved.items()}
        evidence |= {f"{name}, {other}": after for name, (_, after) in moved.items()}
        yield finding("embedding-count", evidence, column=used, other=other, moved=shown)


def other_count(raw: pd.DataFrame, used: str) -> str | None:
    """The column that counts parameters the other way than `used` does: with embeddings, or without."""
    plain = {re.sub(r"[\W_]", "", name).lower() for name in column_named("n").names}
    counts = [c for c in raw if isinstance(c, str) and re.sub(r"[\W_]", "", c).lower() in plain]
    for column in counts:
        if _without(column) != _without(used) and list(raw.columns).count(column) == 1:
            values = _numbers(raw[column])
            if np.isfinite(values).all() and (values > 0).all() and not np.array_equal(values, _numbers(raw[used])):
                return column
    return None


def _without(column: str) -> bool:
    return re.search("(non|no|without)_?embed", column.lower()) is not None


def _refitted(refits: Refits, n: Array) -> dict[str, float]:
    """The parameters with other values of n [points], from the optimum."""
    fit = refits.fit
    rows = Rows.of(fit.points.assign(n=n), fit.law, fit.space, fit.replicates, fit.settings)
    prepared = fit.law.prepare(rows.columns)
    coordinates = Coordinates.of(fit.law, prepared, rows.y, fit.space, fit.fixed)
    problem = Problem(coordinates, prepared, fit.loss, fit.delta)
    ones = np.ones((1, len(rows.y)))
    start = follow(problem.kernel, rows.y, ones, fit.phi[None], _PATH if fit.space == "log" else (np.inf,))
    found = problem.solve(rows.y, ones, start)
    return coordinates.theta(found.phi[0])


def _together(fit: Estimate, by: str) -> float:
    """The correlation of two residuals of one group: how much of their variance is between groups."""
    residuals = fit.rows.y - fit.fittedvalues if fit.space == "linear" else fit.resid
    if len(residuals) != len(fit.points):
        return 0.0
    groups = pd.Series(residuals).groupby(fit.points[by].to_numpy())
    sizes = groups.transform("count")
    kept = (sizes > 1).to_numpy()
    count = int(groups.ngroups - (groups.count() == 1).sum())
    if kept.sum() <= count or count < 2:
        return 0.0
    means = groups.transform("mean")[kept]
    within = float(((residuals[kept] - means) ** 2).sum() / (kept.sum() - count))
    size = float(kept.sum() / count)
    between = float(((means - residuals[kept].mean()) ** 2).sum() / (count - 1))
    return (between - within) / (between + (size - 1) * within) if between > 0 else 0.0


def _numbers(column: pd.Series[Any]) -> Array:
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
