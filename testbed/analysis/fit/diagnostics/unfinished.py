"""Warnings about rows of runs that did not end: by their status, or short of what was planned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit.diagnostics.finding import Finding, finding
from testbed.analysis.fit.estimate import Estimate
from testbed.points.expressions import quoted
from testbed.points.numbers import row_number

_STATUS = re.compile(r"(^|[_ .])(status|state|outcome)$", re.IGNORECASE)
# fmt: off
_ENDED = frozenset({
    "finished", "done", "complete", "completed", "success", "succeeded", "successful", "ok", "passed", "trained",
    "ended", "final",
})
_NOT_ENDED = frozenset({
    "running", "crashed", "crash", "failed", "fail", "failure", "killed", "preempted", "pending", "queued",
    "canceled", "cancelled", "stopped", "aborted", "timeout", "oom", "nan", "diverged", "error", "incomplete",
    "interrupted", "paused", "unfinished", "partial", "scheduled", "started", "in_progress", "out_of_memory",
})
# fmt: on
_YES = re.compile(r"^(is_)?(finished|completed?|done|succeeded|success)$", re.IGNORECASE)
_NO = re.compile(r"^(is_|has_)?(crashed|failed|diverged|unfinished|killed|oom|aborted|interrupted)$", re.IGNORECASE)
_PLANNED = (  # what was done, what was planned
    (
        ("step", "global_step", "steps_done", "completed_steps", "current_step", "iteration", "iter", "train_step", "steps"),
        ("max_steps", "total_steps", "planned_steps", "target_steps", "num_steps", "n_steps", "steps_planned", "max_iters",
         "total_iters", "steps_total", "steps_target"),
    ),
    (
        ("tokens", "n_tokens", "tokens_seen", "train_tokens", "num_tokens", "D", "training_tokens", "tokens_trained"),
        ("planned_tokens", "target_tokens", "max_tokens", "tokens_planned", "tokens_target", "token_budget",
         "tokens_budget", "n_tokens_planned", "tokens_total_planned", "max_train_tokens"),
    ),
    (("epoch", "epochs_done"), ("num_epochs", "n_epochs", "max_epochs", "total_epochs", "num_train_epochs", "epochs")),
)  # fmt: skip
_WHOLE = 0.99  # of what was planned, from which a run counts as ended
_SHOWN = 5


@dataclass(frozen=True)
class Sign:
    """One sign that rows are of unfinished runs: which [rows], what says so, and the expression that leaves them out."""

    rows: NDArray[np.bool_]
    what: str
    keep: str


def unfinished(fit: Estimate, raw: pd.DataFrame) -> Iterator[Finding]:
    """The rows of runs that crashed, run still, or stopped short, by each column that says so; the rows are still fitted."""
    for sign in signs(raw):
        count = int(sign.rows.sum())
        if not 0 < count < len(raw):
            continue
        which = np.flatnonzero(sign.rows)[:_SHOWN]
        numbers = ", ".join(str(row_number(raw, int(k))) for k in which) + (", …" if count > _SHOWN else "")
        evidence: dict[str, float | str] = {"rows": float(count), "of": float(len(raw)), "sign": sign.what}
        yield finding(
            "unfinished",
            evidence | {"where": sign.keep},
            rows=f"{count} of {len(raw)} rows ({'row' if count == 1 else 'rows'} {numbers})",
            are="is" if count == 1 else "are",
            what=sign.what,
            keep=sign.keep,
        )


def signs(raw: pd.DataFrame) -> Iterator[Sign]:
    """Each sign of unfinished runs that a table's columns give."""
    lower = {name.lower(): name for name in raw.columns if isinstance(name, str) and list(raw.columns).count(name) == 1}
    for name in lower.values():
        if _STATUS.search(name):
            yield from _by_status(raw[name], name)
        elif _YES.match(name) or _NO.match(name):
            yield from _by_truth(raw[name], name, bool(_YES.match(name)))
    for done, planned in _PLANNED:
        have = next((lower[name.lower()] for name in done if name.lower() in lower), None)
        want = next(
            (lower[name.lower()] for name in planned if name.lower() in lower and lower[name.lower()] != have), None
        )
        if have is not None and want is not None:
            short = _numbers(raw[have]) < _WHOLE * _numbers(raw[want])
            yield Sign(short, f"{have} below {want}", f"{quoted(have)} >= {_WHOLE:g} * {quoted(want)}")


def _by_status(column: pd.Series[Any], name: str) -> Iterator[Sign]:
    texts = column.astype(str).str.strip()
    plain = texts.str.lower().str.replace(r"[ -]", "_", regex=True)
    ended, not_ended = plain.isin(_ENDED), plain.isin(_NOT_ENDED)
    rows = (~ended if ended.any() else not_ended).to_numpy(bool)
    if not (ended.any() or not_ended.any()) or not rows.any():
        return
    kept = sorted(set(texts[~rows]))
    keep = f"{quoted(name)} == '{kept[0]}'" if len(kept) == 1 else f"{quoted(name)} in ({', '.join(map(repr, kept))})"
    yield Sign(rows, f"{name} {', '.join(sorted(set(texts[rows]))[:3])}", keep)


def _by_truth(column: pd.Series[Any], name: str, good: bool) -> Iterator[Sign]:
    values = column.map({True: 1.0, False: 0.0, "true": 1.0, "false": 0.0, "True": 1.0, "False": 0.0}).to_numpy(
        np.float64
    )
    rows = np.asarray(values == (0.0 if good else 1.0), bool)
    if rows.any():
        truth = str(good).lower() if pd.api.types.is_bool_dtype(column.dtype) else str(int(good))
        yield Sign(rows, f"{'not ' if good else ''}{name}", f"{quoted(name)} == {truth}")


def _numbers(column: pd.Series[Any]) -> NDArray[np.float64]:
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
