"""Prints sentences, tables and JSON; on a terminal every word and number stays whole."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from testbed.cli.table_layout import lay_out
from testbed.cli.word_wrap import breaks

if TYPE_CHECKING:
    import pandas as pd

    from testbed.analysis.fit.diagnostics import Finding
    from testbed.analysis.report.study.tables import TextTable
    from testbed.study import Study


class Terminal(Console):
    """A Rich console that never interprets markup, emoji codes or control sequences in untrusted text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        r"""The text as it is, with its control characters spelt out, such as \x1b."""
        return super().render_str(printable(text), **options)

    def say(self, *parts: str | tuple[str, str], indent: int = 0) -> None:
        """Print text; a part may be (text, Rich style).

        A terminal gets lines broken between words, those after the first indented. A file or a pipe gets the line whole.
        """
        text = Text.assemble(
            *(printable(part) if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts)
        )
        if not self.is_terminal:
            self.print(text, soft_wrap=True)
            return
        for line in text.split("\n", allow_blank=True):
            first, *more = line.divide(breaks(line.plain, self.width - indent))
            for piece in (first, *(Text(" " * indent) + further for further in more)):
                piece.rstrip()
                self.print(piece, soft_wrap=True)


def printable(text: str) -> str:
    """The text with control characters, and those that reverse the reading direction, spelt out."""
    return "".join(
        character.encode("unicode_escape").decode()
        if character not in "\n\t" and unicodedata.category(character) in _CONTROLS
        else character
        for character in text
    )


_CONTROLS = ("Cc", "Cf", "Cs")
console = Terminal()
errors = Terminal(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a Python warning as a sentence, without the place in the code that it came from."""
    errors.say(f"note: {message}")


def print_verdict(study: Study) -> None:
    """Print each forecast beside the loss that the target reached, and the verdict in sentences."""
    from testbed.analysis.report.study import sentences as words
    from testbed.analysis.report.study.tables import forecast_table

    forecast, verdict = study.folder.forecast(), study.folder.verdict()
    assert verdict is not None
    print_table(forecast_table(forecast, verdict))
    outcome = ("inside", "bold green") if verdict.hit else ("OUTSIDE", "bold red")
    console.say(outcome, "  ", words.verdict_sentence(verdict))
    entropy = words.entropy_sentence(forecast, verdict.true_entropy, verdict.entropy_held)
    if entropy:
        console.say(entropy)


def print_warnings(findings: Iterable[Finding]) -> None:
    """Print the warnings about a fit, one a paragraph."""
    for finding in findings:
        console.say((finding.code, "yellow"), f": {finding.message}", indent=2)


def print_notes(notes: Iterable[str]) -> None:
    """Print what a command did to its rows, a line each."""
    for note in notes:
        console.say(note)


def print_table(table: TextTable) -> None:
    """Print a table without rules; one too wide for the terminal is wrapped or folded (see `table_layout`)."""
    lines = lay_out(table, console.width if console.is_terminal else None)
    for line in lines:
        console.print(line, soft_wrap=True)


def frame_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as JSON values, null where there is no number."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return rows


def print_json(value: Any) -> None:
    """Indented JSON."""
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201
