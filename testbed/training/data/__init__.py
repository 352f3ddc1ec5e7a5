"""Token sources: text (files, datasets, the interpreter's own source) and a synthetic language.

A new source is one class with `facts`, `rows` and `validation` (see `source.TokenSource`), made from
a `config.Data`: a line in SOURCES, or "package.module:Class" in a configuration.
"""

from __future__ import annotations

from collections.abc import Callable

from testbed.config import Data
from testbed.errors import ConfigError
from testbed.registry import find_class
from testbed.training.data.repeated import Repeated
from testbed.training.data.source import BlockReader, TokenSource
from testbed.training.data.synthetic import ZipfSource
from testbed.training.data.text import TextSource

SOURCES: dict[str, Callable[[Data], TokenSource]] = {
    "text": TextSource,
    "hf": TextSource,
    "synthetic": ZipfSource,
}


def open_source(config: Data) -> TokenSource:
    """The source that `config.source` names; prepares and caches its tokens on first use."""
    source = _opened(config)
    return source if config.unique_tokens is None else Repeated(source, config.unique_tokens)


def _opened(config: Data) -> TokenSource:
    kind, colon, name = config.source.partition(":")
    if kind in SOURCES and name and (kind != "synthetic" or name == "zipf"):
        return SOURCES[kind](config)
    if colon and "." in kind:
        made: TokenSource = find_class(config.source, "data.source", ("rows", "validation"))(config)
        return made
    raise ConfigError(
        f'data.source: found {config.source!r}; accepted: "text:stdlib", "text:PATH", "hf:NAME", "synthetic:zipf" or '
        '"package.module:Class"'
    )


__all__ = ["SOURCES", "BlockReader", "TokenSource", "open_source"]
