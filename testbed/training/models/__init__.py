"""Families of models: each turns one number, the width, into a whole shape.

A new family is one class (see `family.Family`) and its line in FAMILIES, or "package.module:Class"
in a configuration.
"""

from __future__ import annotations

from collections.abc import Callable

from testbed.errors import ConfigError
from testbed.records import Engine, RunSpec
from testbed.registry import find_class
from testbed.training.models.family import Family
from testbed.training.models.gpt import GPTFamily
from testbed.training.models.hf import HuggingFaceFamily

_MOST_LOGITS = 1 << 26  # of a pack; under 1 GB with their losses and gradients

FAMILIES: dict[str, Callable[[], Family]] = {
    "gpt": GPTFamily,
    "hf:gpt2": lambda: HuggingFaceFamily("gpt2"),
    "hf:gpt_neox": lambda: HuggingFaceFamily("gpt_neox"),
    "hf:llama": lambda: HuggingFaceFamily("llama"),
}


def find_family(name: str) -> Family:
    """The family of this name; every causal model type of transformers is one, listed in FAMILIES or not."""
    if name in FAMILIES:
        return FAMILIES[name]()
    kind, _, rest = name.partition(":")
    if kind == "hf" and rest:
        return HuggingFaceFamily(rest)
    if "." in kind and rest:
        made: Family = find_class(name, "model.family", ("shape", "counts", "build", "hidden_matrices"))()
        return made
    raise ConfigError(
        f'model.family: found {name!r}; accepted: {", ".join(FAMILIES)}, any "hf:<model_type>" or "package.module:Class"'
    )


def can_pack(spec: RunSpec) -> bool:
    """Whether runs like this can be trained as a pack of the size in its engine.

    A pack (see `packed.PackedGPT`) takes whole batches in one process and holds all their logits.
    """
    whole = spec.engine == Engine(pack=spec.engine.pack, compile=spec.engine.compile)
    logits = (spec.engine.pack or 1) * spec.batch_tokens * spec.shape.vocab_size
    return spec.shape.family == "gpt" and whole and not spec.parts and logits <= _MOST_LOGITS


__all__ = ["FAMILIES", "Family", "can_pack", "find_family"]
