"""Reading a configuration: TOML, `a.b=value` overrides, and messages that name every mistake.

A message gives the file, the dotted key, what was found, what is accepted and a likely spelling.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from testbed.config.tables import Config
from testbed.errors import ConfigError
from testbed.extension import allow_code


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The caller's own configuration: read a TOML file, apply `a.b=value` overrides, and check everything.

    ConfigError lists every mistake. Classes outside the package that it names may be imported from then on.
    """
    config = read_config(path, overrides)
    allow_code(*config.code())
    return config


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The same of anyone's configuration, such as that of a sweep's folder: what it names is not agreed to."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give a TOML file such as configs/quick.toml") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; give a TOML file such as configs/quick.toml") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 at byte {error.start}; TOML is UTF-8 text, save the file as such"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        _apply(tree, override)
    return check_config(tree, str(path))


def check_config(tree: dict[str, Any], where: str) -> Config:
    """`tree` as a Config; `where` names it in the messages."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = dict.fromkeys(_explain(dict(mistake)) for mistake in error.errors())
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from None


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


def _apply(tree: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    parts = key.strip().split(".")
    if not sign or not all(parts):
        raise ConfigError(f"--set {override}: found no KEY=VALUE; write for example --set train.lr=0.003")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for depth, part in enumerate(parts[:-1]):
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override}: {'.'.join(parts[: depth + 1])} is a value, not a table")
    tree[parts[-1]] = value


def _explain(mistake: dict[str, Any]) -> str:
    """One line: dotted key, what was found, what is accepted, and a likely spelling."""
    loc = [part for part in mistake["loc"] if not _is_branch(part)]
    key = ".".join(f"[{part}]" if isinstance(part, int) else part for part in loc).replace(".[", "[")
    table, description = _look_up([part for part in loc if isinstance(part, str)])
    if mistake["type"] == "extra_forbidden":
        known = sorted(table.model_fields) if table else []
        close = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.6)
        hint = f'; did you mean "{close[0]}"?' if close else ""
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
    return f"{key}: found {mistake['input']!r}, {reason}{accepted}"


def _is_branch(part: Any) -> bool:
    """Pydantic puts the tried alternative of a union into the path; no user wrote it."""
    return isinstance(part, str) and not part.replace("_", "").isalnum()


def _look_up(path: list[str]) -> tuple[type[BaseModel] | None, str]:
    """The table that owns the last key of `path`, and that key's description."""
    table: type[BaseModel] | None = Config
    for part in path[:-1]:
        field = table.model_fields.get(part) if table else None
        table = _table_of(field.annotation) if field else None
    field = table.model_fields.get(path[-1]) if table and path else None
    return table, (field.description or "") if field else ""


def _table_of(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((item for item in options if isinstance(item, type) and issubclass(item, BaseModel)), None)
