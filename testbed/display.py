"""What a user sees while runs are trained: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from testbed.executors import Outcome
from testbed.records import Eval, RunSpec
from testbed.sweep import cost
from testbed.units import show_count, show_seconds

_LINE_SECONDS = 30.0


def progress(specs: Sequence[RunSpec], title: str, console: Console | None = None) -> Bars | Lines:
    """What to train under, as a context: its value is the watcher that Study.train takes."""
    console = console or Console(highlight=False)
    return Bars(specs, title, console) if console.is_terminal else Lines(specs, title, console)


class Bars:
    """A bar for each run at work and one for all, weighted by their optimiser steps' cost."""

    def __init__(self, specs: Sequence[RunSpec], title: str, console: Console) -> None:
        self._total = sum(cost((spec,)) for spec in specs)
        self._done = dict.fromkeys((spec.run_id for spec in specs), 0.0)
        self._count = len(specs)
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", table_column=None),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._all = self._progress.add_task(title, total=self._total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, spec: RunSpec) -> None:
        """Add the run's bar."""
        if spec.run_id not in self._tasks:
            self._tasks[spec.run_id] = self._progress.add_task(f"  {spec.run_id}", total=spec.steps, note="")

    def progress(self, spec: RunSpec, steps: int) -> None:
        """Move the run's bar and the one for all."""
        self._progress.update(self._tasks[spec.run_id], completed=steps)
        self._advance(spec, steps / spec.steps)

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """Show the newest loss."""
        note = f"{evaluation.phase} loss {evaluation.loss:.3f} at {show_count(evaluation.tokens)}"
        self._progress.update(self._tasks[spec.run_id], note=note)

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """Take the run's bar away; a failure is told at once."""
        task = self._tasks.pop(spec.run_id, None)
        if task is not None:
            self._progress.remove_task(task)
        self._advance(spec, 1.0)
        if outcome.ending == "failed":
            self._progress.console.print(f"[red]{spec.run_id} failed:[/red] {outcome.reason}", highlight=False)

    def _advance(self, spec: RunSpec, share: float) -> None:
        self._done[spec.run_id] = share * cost((spec,))
        self._progress.update(self._all, completed=sum(self._done.values()))


class Lines:
    """A line at the end of each run, and one now and then in between."""

    def __init__(self, specs: Sequence[RunSpec], title: str, console: Console) -> None:
        self._console, self._title, self._count = console, title, len(specs)
        self._started = self._spoken = time.monotonic()
        self._weights = {spec.run_id: cost((spec,)) for spec in specs}
        self._shares = dict.fromkeys(self._weights, 0.0)
        self._ended = 0

    def __enter__(self) -> Self:
        self._console.print(f"{self._title}: {self._count} runs", highlight=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def started(self, spec: RunSpec) -> None:
        """Nothing; the end is what counts."""

    def progress(self, spec: RunSpec, steps: int) -> None:
        """A line every half minute."""
        self._shares[spec.run_id] = steps / spec.steps
        if time.monotonic() - self._spoken > _LINE_SECONDS:
            self._say("")

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """Nothing; the losses are in the folder."""

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """One line for the run."""
        self._ended += 1
        self._shares[spec.run_id] = 1.0
        self._say(f"{spec.run_id} {outcome.ending}{': ' + outcome.reason if outcome.reason else ''}")

    def _say(self, what: str) -> None:
        self._spoken = time.monotonic()
        passed = self._spoken - self._started
        share = sum(self._shares[r] * w for r, w in self._weights.items()) / sum(self._weights.values())
        left = f", about {show_seconds(passed / share - passed)} left" if 0.02 < share < 1 else ""
        line = f"  {self._ended}/{self._count} runs, {100 * share:.0f} %, {show_seconds(passed)}{left}  {what}"
        self._console.print(line.rstrip(), highlight=False, soft_wrap=True)
