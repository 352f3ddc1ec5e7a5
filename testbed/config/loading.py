"""Reads a configuration: TOML with `a.b=value` overrides.

The error lists every mistake with the file, the dotted key, what was found, what is accepted and a likely spelling.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from testbed.config.builtin import builtin_configs, find_config
from testbed.config.config import Config
from testbed.config.slips import nearest_key, toml_slip
from testbed.errors import ConfigError
from testbed.registry import allow_code

_LONGEST = 1_000_000  # bytes of a configuration
_MOST_DOTS = 200  # on one of its lines
_MOST_SHOWN = 20  # mistakes in one message
_LONGEST_SHOWN = 120  # characters of what was found
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")  # in an override, where they could start another key


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read the caller's own configuration: a TOML file with `a.b=value` overrides, checked completely.

    Classes outside the package that it names may be imported from now on.

    >>> config = load_config("quick_synthetic", ["train.lr=0.003"])  # the name of a built-in one, or a path
    >>> config.grid.widths, config.train.lr
    ((16, 24, 32, 40), 0.003)
    >>> load_config("quick_synthetic", ["train.learning_rate=0.003"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    testbed.errors.ConfigError: ...

    Raises:
        ConfigError: The file cannot be read, or the configuration has mistakes; the message lists all of them.
    """
    config = read_config(path, overrides)
    for table, read in config.unread_tables().items():
        close = difflib.get_close_matches(table.partition(".")[2], read, n=1, cutoff=0.6)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise ConfigError(
            f"{path}: {table}: unknown table{hint} (components in use here: {', '.join(read)}); take it away, or use the "
            "component that it is for"
        )
    allow_code(*config.code())
    return config


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read anyone's configuration, for example that of a sweep's folder, without consent to import what it names.

    Raises:
        ConfigError: As `load_config`.
    """
    path = find_config(Path(path))
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise ConfigError(f"{path}: longer than {_LONGEST:,} bytes, which no configuration is; give a TOML file")
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        names = ", ".join(builtin_configs())
        raise ConfigError(f"{path}: no such file; give a TOML file, or the name of a built-in one: {names}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; give a TOML file such as configs/quick.toml") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 at byte {error.start}; TOML is UTF-8 text, save the file as such"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        tree = _parse(text)
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML: {toml_slip(text, str(error))}") from None
    for override in overrides:
        _apply(tree, override)
    return check_config(tree, str(path))


def check_config(tree: dict[str, Any], where: str) -> Config:
    """`tree` as a Config; messages call it `where`.

    Raises:
        ConfigError: The tree has mistakes; the message lists all of them.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = list(dict.fromkeys(_explain(dict(mistake), tree) for mistake in error.errors()))
        more = [f"and {len(lines) - _MOST_SHOWN} more"] if len(lines) > _MOST_SHOWN else []
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines[:_MOST_SHOWN] + more)) from None


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ, as `key: old -> new`."""
    rows = []
    for key in sorted(old.keys() | new.keys()):
        left, right = old.get(key), new.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            rows += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            rows.append(f"{prefix}{key}: {left!r} -> {right!r}")
    return rows


def _parse(text: str) -> dict[str, Any]:
    """The TOML in `text`; raises ValueError for any mistake.

    Lines with many dots are refused before they are parsed: time and memory of tomllib grow as the square of the
    parts of a dotted key.
    """
    if any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
        raise ValueError(f"a line has more than {_MOST_DOTS} dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("tables or lists are nested too deep") from None


def _apply(tree: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    parts = key.strip().split(".")
    if not sign or not all(parts) or _CONTROL.search(override):
        raise ConfigError(f"--set {_shown(override)}: found no KEY=VALUE; write for example --set train.lr=0.003")
    try:
        value = _parse(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        value = text.strip()
        if value.startswith(tuple("[{\"'“„«‘‚")):  # meant as TOML: not a text without quotes
            slip = toml_slip(text.strip(), str(error))
            raise ConfigError(f"--set {_shown(override)}: not valid TOML: {slip}") from None
    except ValueError as error:
        raise ConfigError(f"--set {_shown(override)}: {error}") from None
    for depth, part in enumerate(parts[:-1]):
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override}: {'.'.join(parts[: depth + 1])} is a value, not a table")
    tree[parts[-1]] = value


def _explain(mistake: dict[str, Any], tree: dict[str, Any]) -> str:
    """One line: dotted key, what was found, what is accepted, and a likely spelling."""
    loc = _written(mistake, tree)
    key = ".".join(f"[{part}]" if isinstance(part, int) else _spelt(part) for part in loc).replace(".[", "[")
    table, description = _look_up([part for part in loc if isinstance(part, str)])
    no_table = mistake["type"] == "dict_type" and table is not None and loc[-1] not in table.model_fields
    if mistake["type"] == "extra_forbidden" or no_table:
        known = sorted(table.model_fields) if table else []
        close = nearest_key(".".join(map(str, loc)), dict.fromkeys(known), _tables())
        hint = f'; did you mean "{close}"?' if close else ""
        return f"{key}: unknown key{hint} (accepted here: {', '.join(known)})"
    if mistake["type"] == "missing":
        return f"{key}: missing; give {description}"
    reason = mistake["msg"].removeprefix("Input ").removeprefix("String ")
    if mistake["type"] == "value_error":
        reason = str(mistake["ctx"]["error"])
    elif mistake["type"] == "model_type":
        reason = "should be a table"
    if isinstance(mistake["input"], (dict, BaseModel)):
        return f"{key}: {reason}" if key else reason
    accepted = f"; accepted: {description}" if description else ""
    return f"{key}: found {_shown(mistake['input'])}, {reason}{accepted}"


def _written(mistake: dict[str, Any], tree: Any) -> list[str | int]:
    """The mistake's location as the user wrote it: pydantic's has the alternatives of unions in it."""
    path: list[str | int] = []
    for part in mistake["loc"]:
        if isinstance(tree, list) and isinstance(part, int):
            tree = tree[part] if part < len(tree) else None
        elif isinstance(tree, dict) and part in tree:
            tree = tree[part]
        elif not (mistake["type"] == "missing" and isinstance(tree, dict)):
            continue
        path.append(part)
    return path


def _spelt(key: str) -> str:
    """A key as TOML writes it, shortened."""
    plain = re.fullmatch(r"[A-Za-z0-9_-]+", key) and len(key) <= _LONGEST_SHOWN
    return key if plain else _shown(key)


def _shown(value: Any) -> str:
    """What was found, in one line of bounded length."""
    if isinstance(value, int) and value.bit_length() > 4 * _LONGEST_SHOWN:
        return "an enormous number"
    text = repr(value[: 2 * _LONGEST_SHOWN] if isinstance(value, (str, list, tuple)) else value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def _look_up(path: list[str]) -> tuple[type[BaseModel] | None, str]:
    """The table that owns the last key of `path`, and that key's description."""
    table: type[BaseModel] | None = Config
    for part in path[:-1]:
        field = table.model_fields.get(part) if table else None
        table = _table_of(field.annotation) if field else None
    field = table.model_fields.get(path[-1]) if table and path else None
    return table, (field.description or "") if field else ""


def _tables() -> dict[str, dict[str, Any]]:
    """The keys of every table of the configuration, by the table's name."""
    found = {name: _table_of(field.annotation) for name, field in Config.model_fields.items()}
    return {name: dict(table.model_fields) for name, table in found.items() if table is not None}


def _table_of(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((item for item in options if isinstance(item, type) and issubclass(item, BaseModel)), None)
