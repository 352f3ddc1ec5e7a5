"""The columns of points tables, each described once: names, spellings, units, and how it is derived and drawn.

The table is open: a law or a component may have columns that are not described here (see `column_named`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Column:
    """The description of a column of a points table.

    Attributes:
        name: The name that laws, fits and the testbed's own tables use.
        title: Its name in figures; None for the name with spaces.
        unit: The unit of its values, such as "tokens".
        spellings: Other names in people's tables; of several that a table has, the earliest is taken.
        key: The key of the configuration that sets it, such as "train.lr".
        option: The command-line option that names a table's column for it; None for --column.
        count: Whether it counts something, so that the text "7B" is a number.
        scale: How an axis of it is drawn.
        size: Whether it measures how large a run is (N, D, C or U).
        falls: Whether it falls as models get better.
        derived: Expressions over other columns that compute it where a table lacks it, tried in order.
        sums: Expressions over a project's own columns, taken before any name.
        range: The smallest and the largest value that it can have.
    """

    name: str
    title: str | None = None
    unit: str | None = None
    spellings: tuple[str, ...] = ()
    key: str | None = None
    option: str | None = None
    count: bool = False
    scale: Literal["log", "linear"] = "log"
    size: bool = False
    falls: bool = False
    derived: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    range: tuple[float, float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name a table may have for it, in the order in which they are looked for."""
        return self.name, *self.spellings

    @property
    def heading(self) -> str:
        """Title and unit, for axes: "D (tokens)"."""
        title = self.title or self.name.replace("_", " ")
        return title if self.unit is None else f"{title} ({self.unit})"


_NON_EMBEDDING = (
    "n_params_non_embedding",
    "n_params_no_embed",
    "non_embedding_params",
    "n_non_embedding",
    "non_embedding_parameters",
    "params_non_embedding",
    "params_no_embed",
    "num_params_non_embedding",
)
_SUMS = ("params_transformer + params_lm_head",)  # karpathy/nanochat, what its own fits take as N
_TOTAL = (
    "n_params_total",
    "total_params",
    "n_params",
    "params",
    "N",
    "parameters",
    "model_size",
    "num_params",
    "num_parameters",
    "n_parameters",
    "total_parameters",
    "param_count",
    "model_params",
    "parameter_count",
    "params_total",
)
_TOKENS = (
    "n_tokens",
    "D",
    "train_tokens",
    "training_tokens",
    "dataset_size",
    "num_tokens",
    "total_tokens",
    "tokens_seen",
    "token_count",
    "n_train_tokens",
    "tokens_trained",
    "num_input_tokens_seen",
    "samples_seen",
)
_FLOPS = (
    "C",
    "compute",
    "training_flops",
    "train_flops",
    "total_flops",
    "flop",
    "training_compute",
    "flops_budget",
    "compute_budget",
    "total_flos",
    "flops_6nd",
    "budget",
)
_LOSS = (
    "val_loss",
    "eval_loss",
    "validation_loss",
    "valid_loss",
    "final_val_loss",
    "test_loss",
    "final_loss",
    "cross_entropy",
    "nll",
    "macro_loss",
    "L",
    "train_loss",
    "training_loss",
)
_PEAK_LR = ("max_lr", "lr_max", "peak_learning_rate", "lr", "learning_rate", "base_lr", "LR")
_BATCH_TOKENS = (
    "tokens_per_batch",
    "tokens_per_step",
    "batch_size_tokens",
    "batch_size_in_tokens",
    "global_batch_tokens",
)
_N_ACTIVE = (
    "n_params_active_no_embed",
    "n_params_active",
    "active_params",
    "activated_params",
    "num_active_params",
)

# fmt: off
# The columns of the testbed's own points table, in its order.
_RECORDED = (
    Column("run", spellings=("run_id", "run_name"), option="--run"),
    Column("role"),
    Column("family", key="model.family"),
    Column("width", spellings=("d_model", "model_dim", "hidden_size", "hidden_dim", "n_embd")),
    Column("depth", key="model.depth"),
    Column("n_params_non_embedding", "N", "parameters without embeddings", count=True),
    Column("n_params_total", "N", "all parameters", count=True),
    Column("tokens", "D", "tokens", _TOKENS, option="--d", count=True, size=True,
           derived=("tokens_per_param * n", "flops / (6 * n)")),
    Column("unique_tokens", "U", "unique tokens", ("n_unique_tokens", "U", "tokens_unique", "num_unique_tokens"),
           key="data.unique_tokens", count=True, size=True, derived=("tokens / epochs",)),
    Column("tokens_per_param", "D/N", "tokens per parameter",
           ("tokens_per_parameter", "D/N", "token_multiplier", "tpp"), derived=("tokens / n",)),
    Column("flops", "C", "FLOPs", _FLOPS, count=True, size=True, derived=("6 * n * tokens",)),
    Column("flops_6nd", "6ND", "FLOPs", count=True),
    Column("loss", "loss", "nats/token", _LOSS, option="--loss", scale="linear", falls=True,
           derived=("bpb", "log(perplexity)")),
    Column("bpb", "loss", "bits/byte", ("val_bpb", "eval_bpb", "test_bpb", "bits_per_byte"), scale="linear", falls=True),
    Column("phase"),
    Column("horizon", "horizon", "tokens", count=True),
    Column("branch_step"),
    Column("step", "optimiser step", None, ("global_step", "train_step", "training_step", "iteration", "iter"),
           count=True),
    Column("batch_tokens", "batch", "tokens", _BATCH_TOKENS, key="train.batch_tokens", count=True),
    Column("seq_len", key="data.seq_len"),
    Column("schedule", key="train.schedule"),
    Column("peak_lr", "peak learning rate", None, _PEAK_LR, key="train.lr"),
    Column("lr_at_step", "learning rate at the step", None, ("lr", "learning_rate", "LR")),
    Column("init_seed"),
    Column("data_seed"),
    Column("retry_of"),
)
# Further columns that laws need. A user's law may still say `lr`.
_OF_LAWS = (
    Column("n", "N", "parameters", (*_NON_EMBEDDING, *_TOTAL), option="--n", count=True, size=True,
           derived=("tokens / tokens_per_param", "flops / (6 * tokens)"), sums=_SUMS),
    Column("perplexity", spellings=("val_ppl", "val_perplexity", "eval_ppl", "eval_perplexity", "test_ppl", "ppl"), falls=True),
    Column("epochs", spellings=("n_epochs", "num_epochs")),
    Column("error", "error", "1 - accuracy", ("err", "error_rate", "test_error", "val_error", "top1_error"),
           scale="linear", falls=True, range=(0, 1), derived=("1 - accuracy",)),
    Column("accuracy", None, None, ("acc", "test_accuracy", "val_accuracy", "top1_accuracy", "test_acc", "val_acc"),
           scale="linear", range=(0, 1), derived=("1 - error",)),
    Column("steps", "optimiser steps", None,
           ("n_steps", "total_steps", "num_steps", "train_steps", "training_steps", "max_steps"), count=True,
           derived=("step", "tokens / batch_tokens")),
    Column("lr", "learning rate", None, ("peak_lr", *(name for name in _PEAK_LR if name != "lr"))),
    Column("lr_sum", "sum of the learning rate", None, ("cum_lr", "sum_lr", "cumulative_lr", "lr_cumsum"),
           scale="linear"),
    Column("n_non_vocab", "parameters without vocabulary", None,
           ("n_params_non_vocab", "non_vocab_params", "N_nv", *_NON_EMBEDDING), count=True),
    Column("n_vocab", "vocabulary parameters", None,
           ("n_params_vocab", "vocab_params", "N_v", "n_params_embedding", "embedding_params"), count=True),
    Column("vocab_size", "vocabulary", "tokens", ("vocabulary_size", "V", "n_vocab_size"), key="data.vocab_size",
           count=True),
    Column("n_dense", "N of a token", "parameters", ("n_params_dense", "dense_params", "dense_parameters"), count=True),
    Column("experts", spellings=("n_experts", "num_experts", "expert_count"), count=True),
    Column("n_active", "active parameters", None, _N_ACTIVE, count=True),
    Column("n_total", "total parameters", None, ("n_params_total_no_embed", *_TOTAL), count=True),
    Column("streams", "parallel streams", None, ("n_streams", "num_streams", "parallel_streams", "P"), count=True),
    Column("n_encoder", "encoder parameters", None, ("n_params_encoder", "encoder_params"), count=True),
    Column("n_decoder", "decoder parameters", None, ("n_params_decoder", "decoder_params"), count=True),
    Column("share", "share of the mixture", None,
           ("mixture_weight", "proportion", "mixing_ratio", "mixture_ratio", "mix_ratio"), scale="linear", range=(0, 1)),
    Column("reward", spellings=("gold_reward", "gold_score", "gold_rm_score", "rm_score")),
    Column("distance", "√KL", "√nats", ("sqrt_kl", "kl_distance"), scale="linear", derived=("kl ** 0.5",)),
    Column("kl", spellings=("KL", "kl_divergence")),
    Column("n_average", "average parameters", None, ("n_params_average", "average_params"), count=True),
    Column("activation_ratio", spellings=("activation_rate", "active_ratio"), range=(0, 1)),
    Column("granularity", spellings=("expert_granularity",)),
    Column("leverage", spellings=("efficiency_leverage",)),
    Column("bleu", "BLEU", None, ("sacrebleu", "bleu_score")),
    Column("acceptance", "acceptance rate", None, ("acceptance_rate",), scale="linear"),
    Column("min_steps", "steps at a large batch", None, ("steps_min", "S_min"), count=True),
    Column("samples", "samples a problem", None, ("k", "n_samples", "num_samples"), count=True),
    Column("neg_log_accuracy", "-log accuracy above chance", None, ("neg_log_acc",), falls=True),
    Column("neg_log_pass", "-log pass@k", None, ("neg_log_pass_at_k",), falls=True),
    *(Column(f"share_{j}", None, None, (f"proportion_{j}", f"mixture_weight_{j}"), scale="linear") for j in (2, 3, 4, 5)),
    *(Column(f"pool_{j}", None, None, (f"uses_pool_{j}", f"in_pool_{j}"), scale="linear") for j in (1, 2, 3, 4)),
    Column("pass_rate", "pass rate", None, ("passuntil", "pu")),
    Column("activations", "attacked activations", None, ("n_activations", "num_activations"), count=True),
    Column("controlled_tokens", "controlled tokens", None, ("t_max",), count=True),
)
# fmt: on
COLUMNS = (*_RECORDED, *_OF_LAWS)
POINTS_COLUMNS = tuple(each.name for each in _RECORDED)

_BY_NAME = {each.name: each for each in COLUMNS}
_BY_KEY = {each.key: each.name for each in COLUMNS if each.key is not None}


def column_named(name: str) -> Column:
    """The description of the column of this name; one that is not in COLUMNS has only its name."""
    return _BY_NAME.get(name) or Column(name)


def canonical(name: str, wanted: Collection[str]) -> str:
    """`name` where it is wanted; else the first of `wanted` that it is a spelling of; else `name` itself.

    >>> canonical("lr", ["n", "tokens", "peak_lr"]), canonical("lr", ["step", "lr_at_step"])
    ('peak_lr', 'lr_at_step')
    """
    if name in wanted:
        return name
    return next((each for each in wanted if name in column_named(each).spellings), name)


def key_columns(keys: Iterable[str]) -> dict[str, str]:
    """The column that shows each dotted key of the configuration.

    A key without a column of its own has its last part, or the whole key where two would be called alike.

    >>> key_columns(["train.lr", "data.zipf.exponent"])
    {'train.lr': 'peak_lr', 'data.zipf.exponent': 'exponent'}
    """
    names = {key: _BY_KEY.get(key, key.rpartition(".")[2]) for key in keys}
    times = Counter(names.values())
    return {key: name if times[name] == 1 else key.replace(".", "_") for key, name in names.items()}
