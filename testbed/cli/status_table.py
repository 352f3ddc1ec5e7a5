"""The status of a sweep's runs: a row per run, or, of many runs, totals by rung and the runs that need attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from testbed.analysis.report.study.tables import TextTable
from testbed.cli.output import console, print_table

if TYPE_CHECKING:
    from testbed.training.store import RunFolder, State

STATES: tuple[State, ...] = ("done", "running", "paused", "failed", "to do")
_FEW = 50  # runs that fit on a screen or two


def print_status(runs: Mapping[str, RunFolder], states: Mapping[str, State], every: bool) -> None:
    """Print a row per run; of many runs only those that run, are paused or failed, unless `every` is true."""
    many = len(runs) > _FEW and not every
    if many:
        print_table(_totals(list(runs.values()), list(states.values())))
    shown = [run_id for run_id in runs if not many or states[run_id] not in ("done", "to do")]
    left = len(shown) - _FEW if many else 0
    shown = shown[:_FEW] if many else shown
    if shown:
        rows = tuple(_row(run_id, runs[run_id], states[run_id]) for run_id in shown)
        print_table(TextTable(("run", "role", "state", "last loss"), rows))
    if left > 0:
        console.say(f"and {left:,} more that are running, paused or failed; --all shows every run")
    for run_id in shown:
        if (failure := runs[run_id].failure()) is not None:
            console.say(f"{run_id} failed: {failure.reason}")
        if (first := runs[run_id].spec.retry_of) is not None:
            console.say(f"{run_id} is the second try of {first}, at a lower learning rate")
        for notice in runs[run_id].notices():
            console.say(f"{run_id}: {notice.message}")


def _row(run_id: str, run: RunFolder, state: State) -> tuple[str, str, str, str]:
    evals = run.evals()
    last = f"{evals[-1].loss:.4f} {evals[-1].phase}" if evals else ""
    return run_id, f"{run.spec.role} again" if run.spec.retry_of else run.spec.role, state, last


def _totals(runs: Sequence[RunFolder], states: Sequence[State]) -> TextTable:
    """Runs by role, width and state, in the plan's order."""
    counts = Counter((run.spec.role, run.spec.shape.width, state) for run, state in zip(runs, states, strict=True))
    rows = []
    for role, width in dict.fromkeys((run.spec.role, run.spec.shape.width) for run in runs):
        row = [counts[role, width, state] for state in STATES]
        rows.append((role, str(width), f"{sum(row):,}", *(f"{count:,}" if count else "" for count in row)))
    return TextTable(("role", "width", "runs", *STATES), tuple(rows), keys=2)
