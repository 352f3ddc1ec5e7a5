"""Groups of options that several commands have: a dataclass whose fields are the options, described once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from inspect import Parameter
from typing import Any, get_type_hints


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer takes it: each field of a parameter that is a dataclass becomes an option of its own."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @functools.wraps(command)
    def flat(**values: Any) -> None:
        made = {name: kind(**{f.name: values.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        command(**values, **made)

    flat.__signature__ = inspect.Signature(_options(command, hints, groups))  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in flat.__signature__.parameters.values()}  # type: ignore[attr-defined]
    return flat


def _options(command: Callable[..., None], hints: dict[str, Any], groups: dict[str, Any]) -> list[Parameter]:
    options = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            kinds = get_type_hints(groups[name], include_extras=True)
            new = [
                Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=kinds[f.name])
                for f in fields(groups[name])
            ]
        else:
            new = [Parameter(name, Parameter.KEYWORD_ONLY, default=parameter.default, annotation=hints[name])]
        options += new
    return options
