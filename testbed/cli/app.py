"""The application, and the one place where errors become messages and exit codes.

Exit codes: 0 success; 1 the forecast's interval missed (with --strict); 2 the user's mistake; 3 a run failed;
4 the budget is spent; 130 interrupted, and the same command resumes.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
from typing import Annotated, NoReturn

import typer

from testbed import __version__
from testbed.cli import (
    compare_commands,
    data_commands,
    design_commands,
    fit_commands,
    law_commands,
    predict_commands,
    sharing_commands,
    study_commands,
    tune_commands,
)
from testbed.cli.help import HelpfulCommand, HelpfulGroup
from testbed.cli.output import console, errors, show_warning
from testbed.cli.signs import show_every_sign
from testbed.errors import TestbedError
from testbed.registry import allow_code

_INTERRUPTED = 130

app = typer.Typer(
    cls=HelpfulGroup,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train a family of small language models, fit a scaling law, seal a forecast, train the target, judge.",
)
for command in (
    *study_commands.COMMANDS,
    *data_commands.COMMANDS,
    *tune_commands.COMMANDS,
    *fit_commands.COMMANDS,
    *predict_commands.COMMANDS,
    *compare_commands.COMMANDS,
    *design_commands.COMMANDS,
    *law_commands.COMMANDS,
    *sharing_commands.COMMANDS,
):
    app.command(cls=HelpfulCommand)(command)


@app.callback(invoke_without_command=True)
def begin(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="print the version")] = False,
    trusted: Annotated[
        list[str] | None,
        typer.Option("--allow-code", metavar="MODULE", help="allow importing a module that a folder or a fit names"),
    ] = None,
) -> None:
    """Train a family of small language models, fit a scaling law, seal a forecast, train the target, judge."""
    allow_code(*(trusted or []))
    if show:
        console.say(f"testbed {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def main() -> NoReturn:
    """Run the command line; a TestbedError becomes one message on stderr, without a traceback."""
    gc.set_threshold(200_000)  # the default spends a tenth of a short command on modules, which are never garbage
    for stream in (sys.stdout, sys.stderr):
        show_every_sign(stream)
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, _hung_up)
    warnings.showwarning = show_warning
    shown = _on_a_terminal()
    try:
        code = app(standalone_mode=False)
    except TestbedError as error:
        errors.say(("error:", "bold red"), f" {error}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except OSError as error:
        if shown and not _on_a_terminal():  # it was closed, and a line could not be printed before SIGHUP came
            _leave_the_terminal()
            sys.exit(_INTERRUPTED)
        errors.say(
            f"error: {error.filename or 'a file'}: {error.strerror or error}; make it readable, or its disk available and "
            "writable again, and repeat the command"
        )
        sys.exit(2)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            usage = getattr(error, "ctx", None)
            remedy = f" {usage.command_path} --help lists what is accepted." if usage is not None else ""
            errors.say(("error:", "bold red"), f" {error.format_message()}{remedy}")
            sys.exit(2)
        raise
    if code == _INTERRUPTED:  # Typer returns it, too
        errors.say("interrupted; every run at work has written its checkpoint; the same command resumes them")
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _hung_up(*_: object) -> NoReturn:
    """Stop as at Ctrl-C; the terminal is closed, and writing to it would be an error."""
    _leave_the_terminal()
    raise KeyboardInterrupt


def _on_a_terminal() -> bool:
    return os.isatty(1) or os.isatty(2)


def _leave_the_terminal() -> None:
    """Whatever is printed from here on is dropped."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
