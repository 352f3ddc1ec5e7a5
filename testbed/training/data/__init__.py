"""Token sources: text (files, datasets, the interpreter's own source) and a synthetic language.

A new source is one class (see `source.TokenSource`) that is made from a `config.Data`, and its line in SOURCES; or an
entry point of an installed package in the group testbed.sources, which data.source names by "NAME" or "NAME:ANYTHING";
or "package.module:Class" in a configuration.
"""

from __future__ import annotations

from testbed.config import Data
from testbed.registry import Registry
from testbed.training.data.repeated import Repeated
from testbed.training.data.source import BlockReader, TokenSource

SOURCES = Registry(
    "data.source",
    "testbed.sources",
    {
        "text": "testbed.training.data.text:TextSource",
        "hf": "testbed.training.data.text:TextSource",
        "synthetic:zipf": "testbed.training.data.synthetic:ZipfSource",
    },
    ("rows", "validation"),
    shown=('"text:stdlib"', '"text:PATH"', '"hf:NAME"', '"synthetic:zipf"'),
)


def open_source(config: Data) -> TokenSource:
    """The source that `config.source` names; prepares and caches its tokens on first use.

    Raises:
        ConfigError: There is no such source, or the user has not agreed to run its code.
        DataError: It cannot be read, or does not hold enough.
    """
    kind, _, rest = config.source.partition(":")
    name = config.source if config.source in SOURCES or "." in kind else kind
    if (name in ("text", "hf") and not rest) or (name not in SOURCES and "." not in kind):
        raise SOURCES.unknown(config.source)
    source: TokenSource = SOURCES.find(name)(config)
    return source if config.unique_tokens is None else Repeated(source, config.unique_tokens)


__all__ = ["SOURCES", "BlockReader", "TokenSource", "open_source"]
