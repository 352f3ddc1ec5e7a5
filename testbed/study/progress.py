"""What a user sees while runs are trained: bars on a terminal, plain lines elsewhere; with what is spent and left."""

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
_LOOKS = 20  # a look at the ledger takes at most one in so many parts of the time


def progress(study: Study, role: Role, console: Console | None = None, title: str | None = None) -> Bars | Lines:
    """What to train the runs of `role` under, as a context: its value is the watcher that Study.train takes."""
    console = console or Console(highlight=False)
    title = title or f"training the {'brackets' if role == 'tune' else role}"
    return (Bars if console.is_terminal else Lines)(_Account(study, role), title, console)


class _Account:
    """The ledger of the runs at work, everybody's; read anew now and then."""

    def __init__(self, study: Study, role: Role) -> None:
        self._study, self._role = study, role
        self._workers = study.workers(study.folder.of_role(role))
        self.started = time.monotonic()

    @property
    def total(self) -> int:
        """Runs of this role, with those that are second tries."""
        return len(self._study.folder.of_role(self._role))

    def read(self) -> tuple[int, float, str]:
        """Runs that have ended; the share of the work that is done; what is left and spent of a budget, in words."""
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
    """A bar for each run at work and one for all, by the time that they take."""

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
        """Move the run's bar, and now and then the one for all."""
        self._progress.update(self._tasks[spec.run_id], completed=steps)
        if time.monotonic() > self._next:
            self._look()

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """Show the newest loss."""
        note = f"{evaluation.phase} loss {evaluation.loss:.3f} at {show_count(evaluation.tokens)}"
        self._progress.update(self._tasks[spec.run_id], note=note)

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """Take the run's bar away; a failure is told at once."""
        task = self._tasks.pop(spec.run_id, None)
        if task is not None:
            self._progress.remove_task(task)
        self._look()
        if outcome.ending == "failed":
            failure = f"{spec.run_id} failed: {outcome.reason}"
            self._progress.console.print(failure, style="red", markup=False, highlight=False)

    def _look(self) -> None:
        started = time.monotonic()
        _, share, left = self._account.read()
        self._progress.update(self._all, completed=share, note=left)
        self._next = started + max(_BAR_SECONDS, _LOOKS * (time.monotonic() - started))


class Lines:
    """A line at the end of each run, and one now and then in between."""

    def __init__(self, account: _Account, title: str, console: Console) -> None:
        self._account, self._title, self._console = account, title, console
        self._spoken = time.monotonic()

    def __enter__(self) -> Self:
        self._console.print(f"{self._title}: {self._account.total} runs", highlight=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def started(self, spec: RunSpec) -> None:
        """Nothing; the end is what counts."""

    def progress(self, spec: RunSpec, steps: int) -> None:
        """A line every half minute."""
        if time.monotonic() - self._spoken > _LINE_SECONDS:
            self._say("")

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """Nothing; the losses are in the folder."""

    def ended(self, spec: RunSpec, outcome: Outcome) -> None:
        """One line for the run."""
        self._say(f"{spec.run_id} {outcome.ending}{': ' + outcome.reason if outcome.reason else ''}")

    def _say(self, what: str) -> None:
        self._spoken = time.monotonic()
        passed = show_seconds(self._spoken - self._account.started)
        ended, share, left = self._account.read()
        line = f"  {ended}/{self._account.total} runs, {100 * share:.0f} %, {passed}{', ' * bool(left)}{left}  {what}"
        self._console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)
