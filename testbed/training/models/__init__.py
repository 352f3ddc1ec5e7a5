"""Families of models, each a ladder of shapes from one dial, the width.

A new family is one class (see `family.Family`) and its line in FAMILIES; or an entry point of an installed package in
the group testbed.families; or "package.module:Class" in a configuration.
"""

from __future__ import annotations

from testbed.records import Engine, RunSpec
from testbed.registry import Registry
from testbed.training.models.family import Family

_MOST_LOGITS = 1 << 26  # of a pack: with their losses and gradients under 1 GB

_HF = "testbed.training.models.hf:HuggingFaceFamily"
FAMILIES = Registry(
    "model.family",
    "testbed.families",
    {"gpt": "testbed.training.models.gpt:GPTFamily", "hf:gpt2": _HF, "hf:gpt_neox": _HF, "hf:llama": _HF},
    ("shape", "counts", "build", "hidden_matrices"),
    shown=("gpt", "hf:gpt2", "hf:gpt_neox", "hf:llama", 'any "hf:<model_type>"'),
)


def find_family(name: str) -> Family:
    """The family of this name; "hf:<model_type>" is one for every causal model type of transformers.

    Raises:
        ConfigError: There is no such family, or the user has not agreed to run its code.
    """
    kind, _, model_type = name.partition(":")
    if kind == "hf" and model_type:
        from testbed.training.models.hf import HuggingFaceFamily

        return HuggingFaceFamily(model_type)
    if name not in FAMILIES and "." not in kind:
        raise FAMILIES.unknown(name)
    family: Family = FAMILIES.find(name)()
    return family


def can_pack(spec: RunSpec) -> bool:
    """Whether runs like this can be trained as a pack of the size in its engine.

    A pack (see `packed.PackedGPT`) takes whole batches in one process and holds all their logits.
    """
    whole = spec.engine == Engine(pack=spec.engine.pack, compile=spec.engine.compile)
    logits = (spec.engine.pack or 1) * spec.batch_tokens * spec.shape.vocab_size
    return spec.shape.family == "gpt" and whole and not spec.parts and logits <= _MOST_LOGITS


__all__ = ["FAMILIES", "Family", "can_pack", "find_family"]
