"""The transformers configuration of a rung: our rule for what it decides, the architecture's proportions for the rest."""

from __future__ import annotations

from typing import Any

from testbed.errors import ConfigError
from testbed.records import Shape

_NOT_OPTIONS = {"model_type", "architectures", "transformers_version"}  # what a saved configuration says of itself
_FEED_FORWARD = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "decoder_ffn_dim", "dff")
_SAME_AS_WIDTH = (
    "embedding_size",
    "input_embedding_size",
    "output_embedding_size",
    "word_embed_proj_dim",
    "attention_hidden_size",
)
_RANDOM = ("dropout", "layerdrop", "jitter_noise")
_PROPORTIONAL = (  # sizes in a block that keep their usual proportion to the width, in steps of 8 as kernels want them
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "shared_intermediate_size",
    "expert_ffn_hidden_size",
    "q_lora_rank",
    "kv_lora_rank",
    "lru_width",
)


def configuration_of(model_type: str, shape: Shape, padding: int | None) -> Any:
    """The configuration; `padding` is its id of padding, unless an option gives one.

    Raises:
        ConfigError: There is no such model type, or it has no such option, or it refuses the rung.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ConfigError(
            f'model.family: found "hf:{model_type}"; accepted: "hf:" and a causal model type of transformers, such as '
            "gpt2, gpt_neox, llama, qwen3, mistral"
        )
    try:
        configuration = AutoConfig.for_model(model_type)
        defaults = configuration.to_dict()
        accepted = {name for name in defaults if not name.startswith("_")} - _NOT_OPTIONS
        unknown = sorted(set(shape.options) - accepted)
        if not unknown:
            fields = _fields(defaults, getattr(configuration, "hidden_size", None), shape, padding)
            return AutoConfig.for_model(model_type, **fields | shape.options)
    except Exception as error:  # its checks raise kinds of their own
        raise refused(shape, error) from error
    raise ConfigError(
        f"model.options.{unknown[0]}: unknown to transformers' {model_type} configuration; accepted: "
        + ", ".join(sorted(name for name in accepted if isinstance(defaults[name], (int, float, str))))
    )


def _fields(defaults: dict[str, Any], usual_width: Any, shape: Shape, padding: int | None) -> dict[str, Any]:
    """The fields that the rung decides, by the names that this configuration has for them."""
    fields: dict[str, Any] = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "vocab_size": shape.vocab_size,
        # with padding, RoBERTa's positions start one later
        "max_position_embeddings": shape.seq_len + (padding is not None),
    }
    present = defaults.keys()
    fields |= {name: 0.0 for name in defaults if name.endswith("_pdrop") or any(part in name for part in _RANDOM)}
    fields |= dict.fromkeys(present & set(_FEED_FORWARD), 4 * shape.width)
    fields |= dict.fromkeys(present & set(_SAME_AS_WIDTH), shape.width)
    fields |= dict.fromkeys(present & {"num_key_value_heads", "num_kv_heads", "decoder_attention_heads"}, shape.heads)
    fields |= dict.fromkeys(present & {"decoder_layers", "num_decoder_layers"}, shape.depth)
    fields |= dict.fromkeys(present & {"head_dim"}, shape.head_size)
    if "qk_rope_head_dim" in defaults:  # heads of DeepSeek: one part with positions, one without
        rotary = max(2, shape.head_size // 4 * 2)
        fields |= {
            "qk_rope_head_dim": rotary,
            "qk_nope_head_dim": shape.head_size - rotary,
            "v_head_dim": shape.head_size,
        }
        fields |= dict.fromkeys(present & {"head_dim"}, rotary)
    if isinstance(defaults.get("rotary_dim"), int):
        fields["rotary_dim"] = min(defaults["rotary_dim"], shape.head_size)
    if "attention_types" in defaults:  # of GPT-Neo: global and local in turn
        fields["attention_types"] = [[["global"], 1] if i % 2 == 0 else [["local"], 1] for i in range(shape.depth)]
    if isinstance(usual_width, int):
        for name in present & set(_PROPORTIONAL):
            if isinstance(defaults[name], int):
                fields[name] = 8 * max(1, round(defaults[name] * shape.width / usual_width / 8))
    beyond = {
        n for n, v in defaults.items() if n.endswith("_token_id") and isinstance(v, int) and v >= shape.vocab_size
    }
    fields |= dict.fromkeys(beyond, 0)
    return fields | {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": padding}


def refused(shape: Shape, error: Exception) -> ConfigError:
    """The one error for whatever a family of transformers raises: family, options, the reason, what to set."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    reason = reason if len(reason) <= 300 else f"{reason[:300]}…"
    options = f" with the options {shape.options}" if shape.options else ""
    return ConfigError(
        f"model.family: transformers refuses {shape.family} of width {shape.width}, depth {shape.depth} and {shape.heads} heads"
        f"{options} ({reason}); set the field of its configuration that this is about in [model.options], or use another "
        "family, such as hf:llama"
    )
