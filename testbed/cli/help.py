"""The layout of --help: options beside what they do, or above it where the terminal is narrow; every word whole."""

from __future__ import annotations

import shutil
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from testbed.cli.word_wrap import pieces, wrap

_INDENT = "  "
_LEAST = 36  # columns that descriptions need beside their options


class HelpfulCommand(TyperCommand):
    """A command with this layout."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, purpose, arguments and options."""
        formatter.write(_help(self, ctx))


class HelpfulGroup(TyperGroup):
    """The application with this layout."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, purpose, options and commands."""
        commands = [(name, command.help or "") for name, command in self.commands.items()]
        formatter.write(_help(self, ctx) + _section("Commands", commands))


def _help(command: Any, ctx: Any) -> str:
    width = shutil.get_terminal_size().columns
    usage = " ".join(["Usage:", ctx.command_path, *command.collect_usage_pieces(ctx)])
    lines = [*wrap(usage, width, _INDENT * 2), "", *(line for line in wrap(command.help or "", width))]
    sections = ""
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        chosen = [p for p in command.get_params(ctx) if p.param_type_name == kind]
        sections += _section(title, [record for p in chosen if (record := p.get_help_record(ctx))])
    return "\n".join(lines) + "\n" + sections


def _section(title: str, records: list[tuple[str, str]]) -> str:
    """A title, and each name with its description."""
    if not records:
        return ""
    width = shutil.get_terminal_size().columns
    longest = max(len(name) for name, _ in records)
    start = longest + 2 * len(_INDENT)
    beside = width - start >= _LEAST
    lines = [typer.style(f"{title}:", bold=True)]
    for name, text in records:
        shown = _INDENT + typer.style(name, fg="cyan")
        if beside:
            first, *more = pieces(text, width - start)
            lines += [
                shown + " " * (start - len(_INDENT) - len(name)) + first,
                *(" " * start + piece for piece in more),
            ]
        else:
            lines += [shown, *(_INDENT * 3 + piece for piece in pieces(text, width - 3 * len(_INDENT)))]
    return "\n" + "\n".join(lines) + "\n"
