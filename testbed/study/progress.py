"""Shows the progress of training: bars on a terminal, plain lines elsewhere; with time left and budget spent."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from testbed.records import Eval, Role, RunSpec
from testbed.study.study import Study
from testbed.training.executors import Outcome
from testbed.training.store.ledger import Ledger
from testbed.training.store.spending import account
from testbed.units import show_count, show_seconds

_LINE_SECONDS = 30.0
_BAR_SECONDS = 2.0
_SHARE = 20  # reading the ledger takes at most one part in so many of the time


def progress(study: Study, role: Role, console: Console | None = None, title: str | None = None) -> Bars | Lines:
    """A context manager whose value is the watcher that Study.train takes.

    >>> with testbed.progress(study, "grid") as watcher:  # doctest: +SKIP
    ...     study.train("grid", watcher)
    training the grid: 9 runs
      1/9 runs, 4 %, 12 s, about 5 m left  w0016-i0-d0-4ef6a8dca9 done
    """
    console = console or Console(highlight=False)
    title = title or f"training the {'brackets' if role == 'tune' else role}"
    return (Bars if console.is_terminal else Lines)(_Account(study, role), title, console)


class _Account:
    """The ledger of all runs of a role, whichever process trains them; read from the folder."""

    def __init__(self, study: Study, role: Role) -> None:
        self._study, self._role = study, role
        self._workers = study.workers(study.folder.of_role(role))
        self.started = time.monotonic()

    @property
    def total(self) -> int:
        """The number of runs of this role, second tries included."""
        return len(self._study.folder.of_role(self._role))

    def read(self) -> tuple[int, float, str]:
        """The number of ended runs, the share of the work that is done, and time left and budget spent in words."""
        folder = self._study.folder
        ledger = Ledger.of(folder, folder.of_role(self._role))
        words = []
        if any(entry.steps for entry in ledger.entries) and (left := ledger.seconds_left(self._workers)):
            words.append(f"about {show_seconds(left)} left")
        if (budget := folder.budget()) is not None:
            whole = ledger if self.total == len(folder.specs) else Ledger.of(folder)
            words.append(f"{account(whole.spent, budget)} spent")
        ended = sum(entry.state in ("done", "failed") for entry in ledger.entries)
        return ended, ledger.share, ", ".join(words)


class Bars:
    """A bar for each run at work, and one for all, in proportion to the time that they take."""

    def __init__(self, account: _Account, title: str, console: Console) -> None:
        self._account = account
        self._next = 0.0
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", table_column=None),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._all = self._progress.add_task(title, total=1.0, note="")

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
        """Move the run's bar, and every few seconds the one for all."""
        self._progress.update(self._tasks[spec.run_id], completed=steps)
        if time.monotonic() > self._next:
            self._refresh()

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """Show the newest loss."""
        note = f"{evaluation.phase} loss {evaluation.loss:.3f} at {show_count(evaluation.tokens)}"
        self._progress.update(self._tasks[spec.run_id], note=note)

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """Remove the run's bar; print a failure at once."""
        task = self._tasks.pop(spec.run_id, None)
        if task is not None:
            self._progress.remove_task(task)
        self._refresh()
        if outcome.ending == "failed":
            failure = f"{spec.run_id} failed: {outcome.reason}"
            self._progress.console.print(failure, style="red", markup=False, highlight=False)

    def _refresh(self) -> None:
        started = time.monotonic()
        _, share, left = self._account.read()
        self._progress.update(self._all, completed=share, note=left)
        self._next = started + max(_BAR_SECONDS, _SHARE * (time.monotonic() - started))


class Lines:
    """A line at the end of each run, and one every half minute in between."""

    def __init__(self, account: _Account, title: str, console: Console) -> None:
        self._account, self._title, self._console = account, title, console
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self._console.print(f"{self._title}: {self._account.total} runs", highlight=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def started(self, spec: RunSpec) -> None:
        """Print nothing: a run has its line when it ends."""

    def progress(self, spec: RunSpec, steps: int) -> None:
        """Print a line if the last one is half a minute old."""
        if time.monotonic() - self._last_line > _LINE_SECONDS:
            self._print("")

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """Print nothing: the losses are in the run's folder."""

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """Print the run's line."""
        self._print(f"{spec.run_id} {outcome.ending}{': ' + outcome.reason if outcome.reason else ''}")

    def _print(self, event: str) -> None:
        self._last_line = time.monotonic()
        passed = show_seconds(self._last_line - self._account.started)
        ended, share, left = self._account.read()
        line = f"  {ended}/{self._account.total} runs, {100 * share:.0f} %, {passed}{', ' * bool(left)}{left}  {event}"
        self._console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)
