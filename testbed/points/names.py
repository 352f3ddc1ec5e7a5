"""What people call the columns of a table of runs, in the order in which one is chosen where several are there."""

from __future__ import annotations

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
)

# The canonical name comes first; of two that a table has, the earlier one is taken.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "n": ("n", *_NON_EMBEDDING, *_TOTAL),
    "tokens": (
        "tokens",
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
    ),
    "flops": (
        "flops",
        "C",
        "compute",
        "training_flops",
        "train_flops",
        "total_flops",
        "flop",
        "training_compute",
        "flops_budget",
        "compute_budget",
        "flops_6nd",
    ),
    "unique_tokens": ("unique_tokens", "n_unique_tokens", "U", "tokens_unique", "num_unique_tokens"),
    "epochs": ("epochs", "n_epochs", "num_epochs"),
    "tokens_per_param": ("tokens_per_param", "tokens_per_parameter", "D/N", "token_multiplier", "tpp"),
    "loss": (
        "loss",
        "val_loss",
        "eval_loss",
        "validation_loss",
        "final_loss",
        "L",
        "valid_loss",
        "test_loss",
        "final_val_loss",
        "cross_entropy",
        "nll",
        "train_loss",
        "training_loss",
    ),
    "error": ("error", "err", "error_rate", "test_error", "val_error", "top1_error"),
    "accuracy": ("accuracy", "acc", "test_accuracy", "val_accuracy", "top1_accuracy", "test_acc", "val_acc"),
    "lr": ("lr", "learning_rate", "peak_lr", "max_lr", "lr_max", "base_lr", "LR", "peak_learning_rate"),
    "batch_tokens": (
        "batch_tokens",
        "tokens_per_batch",
        "tokens_per_step",
        "batch_size_tokens",
        "batch_size_in_tokens",
        "global_batch_tokens",
    ),
    "steps": ("steps", "n_steps", "total_steps", "num_steps", "train_steps", "training_steps", "max_steps"),
    "step": ("step", "global_step", "train_step", "training_step", "iteration", "iter"),
    "lr_sum": ("lr_sum", "cum_lr", "sum_lr", "cumulative_lr", "lr_cumsum"),
    "n_non_vocab": ("n_non_vocab", "n_params_non_vocab", "non_vocab_params", "N_nv", *_NON_EMBEDDING),
    "n_vocab": ("n_vocab", "n_params_vocab", "vocab_params", "N_v", "n_params_embedding", "embedding_params"),
    "vocab_size": ("vocab_size", "vocabulary_size", "V", "n_vocab_size"),
    "n_dense": ("n_dense", "n_params_dense", "dense_params", "dense_parameters"),
    "experts": ("experts", "n_experts", "num_experts", "expert_count"),
    "n_active": (
        "n_active",
        "n_params_active_no_embed",
        "n_params_active",
        "active_params",
        "activated_params",
        "num_active_params",
    ),
    "n_total": ("n_total", "n_params_total_no_embed", *_TOTAL),
    "streams": ("streams", "n_streams", "num_streams", "parallel_streams", "P"),
    "n_encoder": ("n_encoder", "n_params_encoder", "encoder_params"),
    "n_decoder": ("n_decoder", "n_params_decoder", "decoder_params"),
    "share": ("share", "mixture_weight", "proportion", "mixing_ratio", "mixture_ratio", "mix_ratio"),
    "reward": ("reward", "gold_reward", "gold_score", "gold_rm_score", "rm_score"),
    "distance": ("distance", "sqrt_kl", "kl_distance"),
    "kl": ("kl", "KL", "kl_divergence"),
    "n_average": ("n_average", "n_params_average", "average_params"),
    "activation_ratio": ("activation_ratio", "activation_rate", "active_ratio"),
    "granularity": ("granularity", "expert_granularity"),
    "leverage": ("leverage", "efficiency_leverage"),
    "bleu": ("bleu", "sacrebleu", "bleu_score"),
    "acceptance": ("acceptance", "acceptance_rate"),
    "run": ("run", "run_id", "run_name", "model"),
}

# What is computed where a table lacks it, from the first line whose columns are all there.
DERIVED: dict[str, tuple[str, ...]] = {
    "tokens": ("tokens_per_param * n", "flops / (6 * n)"),
    "n": ("tokens / tokens_per_param", "flops / (6 * tokens)"),
    "flops": ("6 * n * tokens",),
    "tokens_per_param": ("tokens / n",),
    "unique_tokens": ("tokens / epochs",),
    "error": ("1 - accuracy",),
    "accuracy": ("1 - error",),
    "distance": ("kl ** 0.5",),
}

# Columns that count something, where a text such as "7B" can only mean one number.
COUNTS = frozenset(
    {"n", "tokens", "flops", "unique_tokens", "batch_tokens", "steps", "step", "vocab_size", "experts", "streams"}
    | {"n_non_vocab", "n_vocab", "n_dense", "n_active", "n_total", "n_average", "n_encoder", "n_decoder"}
)
