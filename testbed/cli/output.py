"""What the commands print: tables, verdicts, JSON."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

    from testbed.analysis.fit.diagnostics import Finding
    from testbed.analysis.report.study.tables import Table
    from testbed.study import Study


class Terminal(Console):
    """A console that prints what a file or a name holds, and does not obey it: no emoji codes, no control sequences."""

    def render_str(self, text: str, **options: Any) -> Text:
        r"""The text with its control characters spelt out, such as \x1b."""
        return super().render_str(printable(text), **(options | {"emoji": False}))


def printable(text: str) -> str:
    """The text with what would steer a terminal or reverse the direction of reading spelt out."""
    return "".join(
        character.encode("unicode_escape").decode()
        if character not in "\n\t" and unicodedata.category(character) in _STEERING
        else character
        for character in text
    )


_STEERING = ("Cc", "Cf", "Cs")
console = Terminal(highlight=False)
errors = Terminal(stderr=True, highlight=False)

_TABLE_WIDTH = 140  # a table is not folded into less: a terminal can be made wider, a file has no width

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a Python warning as one line, without the place in the code that it came from."""
    errors.print(f"note: {message}", markup=False, soft_wrap=True)


def print_verdict(study: Study) -> None:
    """Every prediction beside what the target reached, and the verdict in sentences."""
    from testbed.analysis.report.study import sentences as words
    from testbed.analysis.report.study.tables import forecast_table

    forecast, verdict = study.folder.forecast(), study.folder.verdict()
    assert verdict is not None
    print_table(forecast_table(forecast, verdict))
    colour = "green" if verdict.hit else "red"
    console.print(f"[bold {colour}]{'inside' if verdict.hit else 'OUTSIDE'}[/bold {colour}]  ", end="")
    console.print(words.verdict_sentence(verdict), markup=False)
    entropy = words.entropy_sentence(forecast, verdict.true_entropy, verdict.entropy_held)
    if entropy:
        console.print(entropy, markup=False)


def print_notes(findings: Sequence[Finding]) -> None:
    """What a fit has to confess, one line each."""
    for finding in findings:
        console.print(f"[yellow]{finding.code}[/yellow]: ", end="")
        console.print(finding.message, markup=False)


def print_table(table: Table) -> None:
    """A table without lines."""
    shown = RichTable(*table.titles, box=None, padding=(0, 2, 0, 0))
    for row in table.rows:
        shown.add_row(*row)
    Terminal(width=max(console.width, _TABLE_WIDTH), highlight=False, markup=False).print(shown)


def frame_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as JSON values, null where there is no number."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return rows


def print_json(value: Any) -> None:
    """Indented JSON."""
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201
