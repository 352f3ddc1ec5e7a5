"""Options that do not apply to what a command was given: refused where the user typed them, never ignored."""

from __future__ import annotations

import typer

from testbed.errors import ConfigError


def refuse_options(context: typer.Context, reason: str, *names: str) -> None:
    """Raise ConfigError with `reason` if any of these parameters was given on the command line."""
    given = [_spelt(context, name) for name in names if _typed(context, name)]
    if given:
        raise ConfigError(f"{', '.join(given)}: {reason}")


def _typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _spelt(context: typer.Context, name: str) -> str:
    """The option as the user typed it: its longest spelling, of a switch the one that was chosen."""
    option = next(parameter for parameter in context.command.params if parameter.name == name)
    spellings = option.secondary_opts if option.secondary_opts and context.params[name] is False else option.opts
    return max(spellings, key=len)
