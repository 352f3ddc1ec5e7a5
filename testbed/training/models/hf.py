"""Families `hf:<model_type>`: any causal language model configuration of transformers as a ladder.

Width, depth, heads and the feed-forward follow our rule; everything else is the configuration's own
default or [model.options]. Dropout is off. Costs are counted on torch's meta device, which holds
shapes and no numbers, so any architecture is counted exactly and nothing is allocated.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils.flop_counter import FlopCounterMode

from testbed.config import Model
from testbed.records import Counts, Shape
from testbed.training.models.causal import attend_causally
from testbed.training.models.experts import experts_on_shapes
from testbed.training.models.family import depth_of
from testbed.training.models.hf_configuration import configuration_of, refused


class HuggingFaceFamily:
    """One model type of transformers, such as gpt2, gpt_neox or llama."""

    def __init__(self, model_type: str) -> None:
        self._model_type = model_type

    def shape(self, width: int, rule: Model, vocab_size: int, seq_len: int) -> Shape:
        """The rung of this width: d / head_size heads, and 4 d feed-forward unless an option says otherwise."""
        return Shape(
            family=f"hf:{self._model_type}",
            width=width,
            depth=depth_of(width, rule),
            heads=width // rule.head_size,
            head_size=rule.head_size,
            vocab_size=vocab_size,
            seq_len=seq_len,
            options=rule.options,
        )

    def counts(self, shape: Shape) -> Counts:
        """Parameters and FLOPs of the built architecture, on the meta device."""
        with torch.device("meta"):
            network = _network(self.configuration(shape), shape)
        flops = _flops_on_shapes(network, shape.seq_len)
        if flops is None:
            flops = _flops_of_ids(self.build(shape, 0), shape)
        parameters = dict(network.named_parameters())  # a tied head is listed once
        outside = sum(p.numel() for name, p in parameters.items() if name in network.embedding_names)
        total = sum(p.numel() for p in parameters.values())
        return Counts(
            n_params_non_embedding=total - outside,
            n_params_total=total,
            flops_per_token=3 * flops // shape.seq_len,
        )

    def build(self, shape: Shape, init_seed: int) -> LogitsOnly:
        """The network with the architecture's own initialisation."""
        with torch.random.fork_rng():
            configuration = self.configuration(shape)  # which may try something: the weights' numbers come after
            torch.manual_seed(init_seed)
            network = _network(configuration, shape)
            try:
                attend_causally(network.lm, shape.seq_len)
            except Exception as error:  # of as many kinds as there are architectures
                raise refused(shape, error) from error
            return network

    def hidden_matrices(self, network: nn.Module) -> set[str]:
        """Every weight of two or more axes that is neither an embedding nor the head."""
        assert isinstance(network, LogitsOnly)
        return {n for n, p in network.named_parameters() if p.dim() >= 2 and n not in network.embedding_names}

    def configuration(self, shape: Shape) -> Any:
        """The transformers configuration of the rung."""
        small = shape.model_copy(update={"vocab_size": 64, "seq_len": 8})
        return configuration_of(self._model_type, shape, _padding_of(self._model_type, small.model_dump_json()))


class LogitsOnly(nn.Module):
    """A transformers causal LM that maps ids [B, T] to logits [B, T, V] and keeps no cache."""

    def __init__(self, configuration: Any) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        self.lm = AutoModelForCausalLM.from_config(configuration, trust_remote_code=False)
        if self.lm._can_set_experts_implementation():
            self.lm.set_experts_implementation(experts_on_shapes())

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, T, V] of ids [B, T]."""
        logits: Tensor = self.lm(input_ids=ids, use_cache=False).logits
        return logits

    def hidden(self, ids: Tensor) -> Tensor:
        """What the head is applied to [B, T, d]."""
        states: Tensor = self.lm.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return states

    @property
    def head(self) -> nn.Module | None:
        """The output head, where the architecture has one."""
        found: nn.Module | None = self.lm.get_output_embeddings()
        return found

    @cached_property
    def embedding_names(self) -> set[str]:
        """Parameters of embedding tables (tokens, positions) and of the output head."""
        tables = {id(m.weight) for m in self.lm.modules() if isinstance(m, nn.Embedding)}
        head = self.lm.get_output_embeddings()
        if head is not None:
            tables |= {id(p) for p in head.parameters()}
        return {name for name, p in self.named_parameters() if id(p) in tables}


def _network(configuration: Any, shape: Shape) -> LogitsOnly:
    try:
        return LogitsOnly(configuration)
    except Exception as error:  # of as many kinds as there are architectures
        raise refused(shape, error) from error


@lru_cache(maxsize=64)
def _padding_of(model_type: str, shape_json: str) -> int | None:
    """The id of padding: none where the architecture does without, since windows have none; else 0."""
    shape = Shape.model_validate_json(shape_json)
    try:
        with unset_fake_temporarily(), torch.device("meta"):  # the same answer while memory is estimated
            network = LogitsOnly(configuration_of(model_type, shape, None))
            ran = _flops_on_shapes(network, shape.seq_len)
    except Exception:
        return 0
    return 0 if ran is None else None


def _flops_on_shapes(network: LogitsOnly, seq_len: int) -> int | None:
    """Forward FLOPs of a window by a network on the meta device; None where it reads the values of tensors."""
    ids = torch.zeros((1, seq_len), dtype=torch.long, device="meta")
    for mask in (torch.zeros((1, 1, seq_len, seq_len), device="meta"), None):  # given, as making one may read values
        with suppress(Exception), FlopCounterMode(display=False) as counter, torch.no_grad():
            network.lm(input_ids=ids, attention_mask=mask, use_cache=False)
            return int(counter.get_total_flops())
    return None


def _flops_of_ids(network: LogitsOnly, shape: Shape) -> int:
    """The same by a network with weights, on ids."""
    if network.lm._can_set_experts_implementation():
        network.lm.set_experts_implementation("batched_mm")  # as many products, in operations that are counted
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.arange(shape.seq_len)[None] % shape.vocab_size)
    except Exception as error:
        raise refused(shape, error) from error
    return int(counter.get_total_flops())
