"""Components by name: ours, those of installed packages, and classes of any module that the user agrees to run.

To import a module is to run it, and a sweep's folder or a FIT.json may be anyone's, so reading one never imports a
module that it names ("package.module:Class"). A user agrees to run a module by naming it themselves: in a configuration
that they give by its path, in an option, with --allow-code, in TESTBED_ALLOW_CODE, or by having imported it before. Who
has installed a package that offers components (entry points in the groups testbed.laws, testbed.sources, ...) has
agreed to run those.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from testbed.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

CONSENT = "TESTBED_ALLOW_CODE"  # modules, with commas between; an environment variable reaches the workers too
_NAME = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<attribute>[^\W\d]\w*)")
_OURS = "testbed"

_Settings = TypeVar("_Settings", bound="BaseModel")


@dataclass(frozen=True, eq=False)
class Registry(Mapping[str, type[Any]]):
    """The components of one kind, as a mapping from their names to their classes; each is imported when first used.

    Attributes:
        key: Where a component is named, as messages say it: "train.schedule".
        group: The group of entry points by which installed packages offer components.
        places: Our own: name -> "package.module:Class". A name here goes before one of an installed package.
        methods: The methods that every class has.
        shown: How messages list our own names, where they are written otherwise than in `places`.
    """

    key: str
    group: str
    places: Mapping[str, str]
    methods: tuple[str, ...]
    shown: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> type[Any]:
        if name in self.places:
            return find_class(self.places[name], self.key, self.methods)
        found = self._installed()[name]
        package = found.dist.name if found.dist else found.module
        return _class(found.module, found.attr, f"{name!r} of the installed package {package}", self.key, self.methods)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.places, *self._installed())))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self.places or name in self._installed()

    def find(self, name: str, key: str | None = None) -> type[Any]:
        """The class of this name, or that "package.module:Class" names; `key` says where it is named, if not in `self.key`.

        Raises:
            ConfigError: There is no such component (the message lists the known ones), the user has not agreed
                to run its module, it cannot be imported, or it lacks a method.
        """
        if name in self:
            return self[name]
        if names_code(name):
            return find_class(name, key or self.key, self.methods)
        raise self.unknown(name, key)

    def unknown(self, name: str, key: str | None = None) -> ConfigError:
        """The error for a name that no component has."""
        return ConfigError(f"{key or self.key}: found {name!r}; accepted: {self.accepted}")

    @property
    def accepted(self) -> str:
        """The names that are accepted, for a message."""
        names = [*(self.shown or self.places), *(name for name in self._installed() if name not in self.places)]
        return f'{", ".join(names)} or "package.module:Class"'

    def _installed(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points

        return {found.name: found for found in sorted(entry_points(group=self.group), key=lambda found: found.name)}


def settings_of(table: BaseModel, name: str, kind: type[_Settings], key: str) -> _Settings:
    """The settings of the component `name`, from its own table in `table`: [data.NAME] for a source.

    Raises:
        ConfigError: They do not fit `kind`; with the dotted key of what is wrong.
    """
    from pydantic import ValidationError

    name = name.rpartition(":")[2].lower() if names_code(name) else name
    try:
        return kind.model_validate((table.model_extra or {}).get(name, {}))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join((key, name, *map(str, first["loc"])))
        raise ConfigError(f"{place}: {first['msg']}; accepted: {', '.join(kind.model_fields)}") from None


def allow_code(*names: str) -> None:
    """Agree to run these modules, here and in processes started from here; "package.module:Class" names its module.

    Raises:
        ConfigError: A name is not that of a module.
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
    """The class that "package.module:Class" names; `key` says in messages where it is named.

    Raises:
        ConfigError: The name has another form, the user has not agreed to run its module, it cannot be imported, or
            it is not a class with these methods.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f'{key}: found {name!r}; accepted: "package.module:Class"')
    module = match["module"]
    if not _may_run(module):
        raise ConfigError(
            f"{key}: found {name!r}, code that you have not agreed to run: a folder or a fit may be anyone's, and reading "
            f"one runs nothing. If you trust it, say so: testbed --allow-code {module} ..., {CONSENT}={module}, or in Python "
            f"import {module} first"
        )
    return _class(module, match["attribute"], repr(name), key, methods)


def _class(module: str, attribute: str, found: str, key: str, methods: Sequence[str]) -> type[Any]:
    """The class `attribute` of a module that may be run; `found` is how messages call it."""
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the module does when it is imported
        raise ConfigError(f"{key}: found {found}, which cannot be imported ({error or type(error).__name__})") from None
    if not isinstance(kind, type):
        raise ConfigError(f"{key}: found {found}, no class; accepted: a class with {', '.join(methods)}")
    missing = [method for method in methods if not callable(getattr(kind, method, None))]
    if missing:
        raise ConfigError(
            f"{key}: found {found}, a class without {', '.join(missing)}; accepted: a class with {', '.join(methods)}"
        )
    return kind


def require(package: str, extra: str, key: str) -> None:
    """Import an optional package that the configuration's `key` asks for.

    Raises:
        ConfigError: It is not installed; with the command that installs it.
    """
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
