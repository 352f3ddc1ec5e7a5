"""How a sweep stands, on a screen: every run where there are few, else totals by rung and the runs that need a look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from testbed.cli.output import console

if TYPE_CHECKING:
    from testbed.training.store import RunFolder, State

STATES: tuple[State, ...] = ("done", "running", "paused", "failed", "to do")
_FEW = 50  # runs that fit on a screen or two


def print_standing(runs: Mapping[str, RunFolder], states: Mapping[str, State], every: bool) -> None:
    """Rows of the runs; of a sweep with many only those that are at work, paused or failed, unless `every` is asked for."""
    many = len(runs) > _FEW and not every
    if many:
        console.print(_totals(list(runs.values()), list(states.values())))
    shown = [run_id for run_id in runs if not many or states[run_id] not in ("done", "to do")]
    left = len(shown) - _FEW if many else 0
    shown = shown[:_FEW] if many else shown
    if shown:
        table = Table("run", "role", "state", "last loss", box=None)
        for run_id in shown:
            evals = runs[run_id].evals()
            last = f"{evals[-1].loss:.4f} {evals[-1].phase}" if evals else ""
            table.add_row(
                run_id, runs[run_id].spec.role + " again" * bool(runs[run_id].spec.retry_of), states[run_id], last
            )
        console.print(table)
    if left > 0:
        console.print(f"and {left:,} more that are running, paused or failed; --all shows every run")
    for run_id in shown:
        if (failure := runs[run_id].failure()) is not None:
            console.print(f"{run_id} failed: {failure.reason}", markup=False)
        if (first := runs[run_id].spec.retry_of) is not None:
            console.print(f"{run_id} is the second try of {first}, at a lower learning rate", markup=False)
        for notice in runs[run_id].notices():
            console.print(f"{run_id}: {notice.message}", markup=False)


def _totals(runs: Sequence[RunFolder], states: Sequence[State]) -> Table:
    """Runs by role, width and state, in the plan's order."""
    counts = Counter((run.spec.role, run.spec.shape.width, state) for run, state in zip(runs, states, strict=True))
    table = Table("role", "width", "runs", *STATES, box=None)
    for role, width in dict.fromkeys((run.spec.role, run.spec.shape.width) for run in runs):
        row = [counts[role, width, state] for state in STATES]
        table.add_row(role, str(width), f"{sum(row):,}", *(f"{count:,}" if count else "" for count in row))
    return table
