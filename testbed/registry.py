"""Code that is not of this package: classes named "package.module:Class", and packages that are optional.

A class is found only in modules that the user agrees to run. To import a module is to run it, and a sweep's
folder or a FIT.json may be anyone's: reading one never imports what it names. What users name themselves is
agreed to: in a configuration given by its path, in an option, with --allow-code, in TESTBED_ALLOW_CODE, or
by having imported the module before.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from testbed.errors import ConfigError

CONSENT = "TESTBED_ALLOW_CODE"  # modules, with commas between; an environment variable reaches the workers too
_NAME = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<attribute>[^\W\d]\w*)")
_OURS = "testbed"

_Settings = TypeVar("_Settings", bound=BaseModel)


@dataclass(frozen=True)
class Registry:
    """Classes that a configuration names: ours by short names, imported lazily, and anyone's by "package.module:Class".

    `key` is where they are named, as messages say it; `methods` are what each has.
    """

    key: str
    places: Mapping[str, str]
    methods: tuple[str, ...]

    def find(self, name: str) -> type[Any]:
        """The class of this name; ConfigError lists the known ones."""
        if name not in self.places and not names_code(name):
            raise ConfigError(
                f'{self.key}: found {name!r}; accepted: {", ".join(self.places)} or "package.module:Class"'
            )
        return find_class(self.places.get(name, name), self.key, self.methods)


def settings_of(table: BaseModel, name: str, kind: type[_Settings], key: str) -> _Settings:
    """A component's own table of a configuration, [data.NAME] for one; ConfigError with the dotted key of what is wrong."""
    name = name.rpartition(":")[2].lower() if names_code(name) else name
    try:
        return kind.model_validate((table.model_extra or {}).get(name, {}))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join((key, name, *map(str, first["loc"])))
        raise ConfigError(f"{place}: {first['msg']}; accepted: {', '.join(kind.model_fields)}") from None


def allow_code(*names: str) -> None:
    """Agree to run these modules, here and in the processes that this one starts; a name is "package.module:Class" too.

    ConfigError for what names no module.
    """
    modules = dict.fromkeys(_allowed())
    for name in names:
        module = name.partition(":")[0]
        if _NAME.fullmatch(f"{module}:x") is None:
            raise ConfigError(f'--allow-code: found {name!r}; accepted: "package.module" or "package.module:Class"')
        modules[module] = None
    if names:
        os.environ[CONSENT] = ",".join(modules)


def names_code(name: str) -> bool:
    """Whether this is "package.module:Class"."""
    return _NAME.fullmatch(name) is not None


def find_class(name: str, key: str, methods: Sequence[str]) -> type[Any]:
    """The class that "package.module:Class" names; `key` says in messages what named it.

    ConfigError where that is no such name, nobody agreed to run its module, it cannot be imported, or it
    is no class with these methods.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f'{key}: found {name!r}; accepted: "package.module:Class"')
    module, attribute = match["module"], match["attribute"]
    if not _may_run(module):
        raise ConfigError(
            f"{key}: found {name!r}, code that you have not agreed to run: a folder or a fit may be anyone's, and reading "
            f"one runs nothing. If you trust it, say so: testbed --allow-code {module} ..., {CONSENT}={module}, or in Python "
            f"import {module} first"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the module does when it is imported
        raise ConfigError(
            f"{key}: found {name!r}, which cannot be imported ({error or type(error).__name__})"
        ) from None
    missing = [method for method in methods if not callable(getattr(found, method, None))]
    if not isinstance(found, type) or missing:
        lacks = f"a class without {', '.join(missing)}" if isinstance(found, type) else "no class"
        raise ConfigError(f"{key}: found {name!r}, {lacks}; accepted: a class with {', '.join(methods)}")
    return found


def require(package: str, extra: str, key: str) -> None:
    """Import an optional package; ConfigError where it is missing, with the configuration's key that asks for it."""
    try:
        importlib.import_module(package)
    except ImportError:
        raise ConfigError(
            f"{key} needs the package {package}, which the extra [{extra}] brings: pip install {package}"
        ) from None


def _may_run(module: str) -> bool:
    if module in sys.modules or module.split(".")[0] == _OURS:
        return True
    return any(module == allowed or module.startswith(f"{allowed}.") for allowed in _allowed())


def _allowed() -> list[str]:
    return [name.strip() for name in os.environ.get(CONSENT, "").split(",") if name.strip()]
