"""The application: its exit codes, and the one place where mistakes are told.

Exit codes: 0 the command did its work; 1 the forecast missed (with --strict); 2 the user's mistake;
3 a run failed; 130 interrupted, to be gone on with.
"""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Annotated, NoReturn

import typer

from testbed import __version__
from testbed.cli import compare_commands as comparison
from testbed.cli import design_commands as design
from testbed.cli import fit_commands as table
from testbed.cli import law_commands as library
from testbed.cli import predict_commands as fitted
from testbed.cli import sharing_commands as sharing
from testbed.cli import study_commands as loop
from testbed.cli import tune_commands as tune
from testbed.cli.output import console, errors, show_warning
from testbed.errors import TestbedError
from testbed.registry import allow_code

_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train a family of small language models, fit a scaling law, seal a forecast, train the target, judge.",
)
for command in (
    *loop.COMMANDS,
    *tune.COMMANDS,
    *table.COMMANDS,
    *fitted.COMMANDS,
    *comparison.COMMANDS,
    *design.COMMANDS,
    *library.COMMANDS,
    *sharing.COMMANDS,
):
    app.command()(command)


@app.callback(invoke_without_command=True)
def begin(
    show: Annotated[bool, typer.Option("--version", help="print the version")] = False,
    trusted: Annotated[
        list[str] | None,
        typer.Option("--allow-code", metavar="MODULE", help="a module that a folder or a fit names may be imported"),
    ] = None,
) -> None:
    """Train a family of small language models, fit a scaling law, seal a forecast, train the target, judge."""
    allow_code(*(trusted or []))
    if show:
        console.print(f"testbed {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; mistakes are told in one message, without a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.showwarning = show_warning
    try:
        code = app(standalone_mode=False)
    except TestbedError as error:
        errors.print("[bold red]error:[/bold red] ", end="")
        errors.print(str(error), markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except OSError as error:
        errors.print(f"error: {error.filename or 'a file'}: {error.strerror or error}; ", markup=False, end="")
        errors.print("make it readable, or its disk available and writable again, and repeat the command")
        sys.exit(2)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            errors.print(f"error: {error.format_message()}", markup=False)
            sys.exit(2)
        raise
    if code == _INTERRUPTED:  # which typer gives back, too
        errors.print(
            "interrupted; every run at work has written its checkpoint, and the same command goes on from there"
        )
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
