"""Whether a family's networks are what a plan takes them for: causal, not random, and of the rung's depth and width.

Looked at on one small network with fresh weights, when runs are planned; nothing is trained.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from testbed.errors import ConfigError, TestbedError
from testbed.records import Shape
from testbed.training.models import find_family

_WINDOW = 512  # tokens of the window that is looked at, at most
_NOISE = 1e-4  # of the largest logit: experts that take other tokens beside round otherwise
_USUAL = (0.5, 2.0)  # of 12 d^2 weights a block: between multi-query attention and gated feed-forwards
_GROWTH = 1.8  # of N where the width is doubled, at least: 4 in large networks
_OWN = ("expert", "rank", "state", "inner", "intermediate", "ffn", "_size", "_dim")  # parts of names of sizes
_DECODERS: tuple[dict[str, Any], ...] = ({"is_decoder": True}, {"is_decoder": True, "attention_type": "original_full"})


@lru_cache(maxsize=64)
def family_findings(shape_json: str) -> tuple[str, ...]:
    """What is unusual in the networks of this rung (a `Shape` as JSON), in sentences.

    Raises:
        ConfigError: Its networks see later tokens, are random, or do not have the depth and the width of the rung.
    """
    shape = Shape.model_validate_json(shape_json)
    problem = _problem(shape)
    if problem is not None:
        raise ConfigError(f"model.family: {shape.family} {problem}")
    return _sizes(shape) if shape.family.startswith("hf:") else ()


class _Seen(NamedTuple):
    """Logits [1, T, V] of a window, of the same one again, and of one in which token `late` is another."""

    first: Tensor
    again: Tensor
    changed: Tensor
    late: int

    @property
    def future(self) -> bool:
        """Whether logits depend on later tokens."""
        return _differ(self.first[:, : self.late], self.changed[:, : self.late])


def _problem(shape: Shape) -> str | None:
    """Why networks of this shape cannot be trained as language models; None where they can."""
    try:
        seen = _seen(shape)
    except TestbedError:
        raise
    except Exception as error:  # whatever a family's code may raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return f"of width {shape.width} cannot be run on {shape.seq_len} tokens ({reason}); {_settings(shape)}"
    wanted = (1, seen.first.shape[1], shape.vocab_size)
    if seen.first.shape != wanted:
        return f"gives logits {tuple(seen.first.shape)}, not {wanted}; {_settings(shape)}"
    if _differ(seen.first, seen.again):
        return f"gives other logits each time, as with dropout: {_settings(shape)}"
    if seen.future:
        return (
            "sees the token that it is to predict: another token changes the logits before it, so its losses would be far too "
            f"low; {_made_causal(shape)}"
        )
    return None


def _seen(shape: Shape) -> _Seen:
    network = find_family(shape.family).build(shape, 0).train()
    _spread(network)
    ids = _ids(shape)
    late = 2 * ids.shape[1] // 3
    ids[1, late] = (ids[1, late] + shape.vocab_size // 2) % shape.vocab_size
    with torch.no_grad():
        return _Seen(network(ids[:1]), network(ids[:1]), network(ids[1:]), late)


@torch.no_grad()
def _spread(network: nn.Module) -> None:
    """Weights of size 1 / sqrt(fan-in), also where they start at 0: what is connected shows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in network.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)


def _ids(shape: Shape) -> Tensor:
    """A window [2, T], twice."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, shape.vocab_size, (1, min(shape.seq_len, _WINDOW)), generator=generator).repeat(2, 1)


def _differ(a: Tensor, b: Tensor) -> bool:
    """Whether they differ by more than rounding."""
    return bool((a - b).abs().max() > _NOISE * a.abs().max())


def _made_causal(shape: Shape) -> str:
    """The options with which the family is causal, if any are known."""
    for options in _DECODERS if shape.family.startswith("hf:") else ():
        with suppress(Exception):  # it has no such option, or refuses it
            if not _seen(shape.model_copy(update={"options": shape.options | options})).future:
                written = ", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
                return f"make it causal with is_decoder: [model] options = {{ {written} }}"
    return f"it is no decoder, even with is_decoder = true: {_settings(shape)}"


def _sizes(shape: Shape) -> tuple[str, ...]:
    """ConfigError where N does not follow depth and width; what is unusual about it otherwise."""
    family = find_family(shape.family)

    def n(**changes: int) -> int:
        return family.counts(shape.model_copy(update=changes)).n_params_non_embedding

    own = n()
    if n(depth=shape.depth + 1) <= own:
        raise ConfigError(
            f"model.family: {shape.family} has as many parameters with {shape.depth + 1} blocks as with {shape.depth}: its depth "
            f"is not that of the rung; {_settings(shape)}"
        )
    growth = n(width=2 * shape.width, heads=2 * shape.heads) / own
    fixed = _fixed_sizes(shape)
    if growth < _GROWTH:
        raise ConfigError(
            f"model.family: {shape.family} grows only {growth:.2f} times where the width doubles from {shape.width} (a plain "
            f"transformer: 4 times), so its widths are no ladder; sizes of its own: {fixed}; set them in [model.options]"
        )
    times = own / (12 * shape.width**2 * shape.depth)
    if _USUAL[0] <= times <= _USUAL[1]:
        return ()
    return (
        f"{shape.family} of width {shape.width} has {times:.3g} times the 12 d^2 weights a block of a plain transformer, and N "
        f"counts them all (also experts that a token does not use); sizes of its own: {fixed}; [model.options] sets them",
    )


def _fixed_sizes(shape: Shape) -> str:
    """Names and values of the configuration's sizes that are about experts, ranks and states."""
    from transformers import AutoConfig

    from testbed.training.models.hf import HuggingFaceFamily

    model_type = shape.family.partition(":")[2]
    ours = HuggingFaceFamily(model_type).configuration(shape).to_dict()
    usual = AutoConfig.for_model(model_type).to_dict()
    names = [n for n, v in ours.items() if any(part in n for part in _OWN) and type(v) is int and 0 < v == usual.get(n)]
    return ", ".join(f"{name} = {ours[name]}" for name in names[:6]) or "none that its configuration names"


def _settings(shape: Shape) -> str:
    if shape.family.startswith("hf:"):
        return "set its field in [model.options], or use another family, such as hf:gpt2 or hf:llama"
    return "see testbed.training.models.family"
