"""Families `hf:<model_type>`: any causal language model configuration of transformers as a ladder.

Width, depth, heads and the feed-forward follow our rule; everything else is the configuration's own
default or [model.options]. Dropout is off. Costs are counted on torch's meta device, which holds
shapes and no numbers, so any architecture is counted exactly and nothing is allocated.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from testbed.config import Model
from testbed.errors import ConfigError
from testbed.records import Counts, Shape
from testbed.training.models.causal import attend_causally
from testbed.training.models.family import depth_of

_NOT_OPTIONS = {"model_type", "architectures", "transformers_version"}  # what a saved configuration says of itself


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
            network = self._network(shape)
            ids = torch.zeros((1, shape.seq_len), dtype=torch.long)
            mask = torch.zeros((1, 1, shape.seq_len, shape.seq_len))  # given, since making one reads tensor values
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network.lm(input_ids=ids, attention_mask=mask, use_cache=False)
        except Exception as error:
            raise ConfigError(
                f"model.family: {shape.family} cannot be run on shapes alone to count its FLOPs ({error}); "
                "use another family, or write one (see testbed.training.models.family)"
            ) from error
        parameters = dict(network.named_parameters())  # a tied head is listed once
        outside = sum(p.numel() for name, p in parameters.items() if name in network.embedding_names)
        total = sum(p.numel() for p in parameters.values())
        return Counts(
            n_params_non_embedding=total - outside,
            n_params_total=total,
            flops_per_token=3 * counter.get_total_flops() // shape.seq_len,
        )

    def build(self, shape: Shape, init_seed: int) -> LogitsOnly:
        """The network with the architecture's own initialisation."""
        with torch.random.fork_rng():
            torch.manual_seed(init_seed)
            network = self._network(shape)
            attend_causally(network.lm, shape.seq_len)
            return network

    def hidden_matrices(self, network: nn.Module) -> set[str]:
        """Every weight of two or more axes that is neither an embedding nor the head."""
        assert isinstance(network, LogitsOnly)
        return {n for n, p in network.named_parameters() if p.dim() >= 2 and n not in network.embedding_names}

    def _network(self, shape: Shape) -> LogitsOnly:
        configuration = _configuration(self._model_type, shape)
        try:
            return LogitsOnly(configuration)
        except (LookupError, TypeError, ValueError, AttributeError, ImportError) as error:
            raise _refused(shape, error) from error


class LogitsOnly(nn.Module):
    """A transformers causal LM that maps ids [B, T] to logits [B, T, V] and keeps no cache."""

    def __init__(self, configuration: Any) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        self.lm = AutoModelForCausalLM.from_config(configuration, trust_remote_code=False)

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


def _configuration(model_type: str, shape: Shape) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ConfigError(
            f'model.family: found "hf:{model_type}"; accepted: "hf:" and a causal model type of transformers, such as '
            "gpt2, gpt_neox, llama, qwen3, mistral"
        )
    fields: dict[str, Any] = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.seq_len,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    defaults = AutoConfig.for_model(model_type).to_dict()
    fields |= {name: 0.0 for name in defaults if "dropout" in name or name.endswith("_pdrop")}
    fields |= {name: 4 * shape.width for name in ("intermediate_size", "n_inner", "ffn_dim") if name in defaults}
    fields |= {name: shape.heads for name in ("num_key_value_heads",) if name in defaults}
    fields |= {name: shape.head_size for name in ("head_dim",) if name in defaults}
    accepted = {name for name in defaults if not name.startswith("_")} - _NOT_OPTIONS
    unknown = sorted(set(shape.options) - accepted)
    if unknown:
        raise ConfigError(
            f"model.options.{unknown[0]}: unknown to transformers' {model_type} configuration; accepted: "
            + ", ".join(sorted(name for name in accepted if isinstance(defaults[name], (int, float, str))))
        )
    try:
        return AutoConfig.for_model(model_type, **fields | shape.options)
    except Exception as error:  # its checks raise kinds of their own
        raise _refused(shape, error) from error


def _refused(shape: Shape, error: Exception) -> ConfigError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return ConfigError(
        f"model.options: transformers refuses {shape.family} of width {shape.width} with {shape.options} ({reason})"
    )
