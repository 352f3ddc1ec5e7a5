"""Which model types of transformers can be trained as families hf:TYPE: prints a line for each, and the remedy if one is refused.

python scripts/families.py [TYPE ...]: all of those below if none is given, some minutes on one core. A type is planned at
width 32 (heads of 8, depth 2, 256 ids, windows of 32 tokens), its memory is estimated, and two optimiser steps are made.
"""

from __future__ import annotations

import os
import sys
import warnings

import torch

from testbed.config import check_config
from testbed.errors import TestbedError
from testbed.training.data import open_source
from testbed.training.sweep import plan
from testbed.training.train import estimate
from testbed.training.train.learners import make_learner

TYPES = """
gpt2 llama gpt_neox gpt_neo opt bloom gptj codegen gpt_bigcode mistral ministral qwen2 qwen3 gemma gemma2 gemma3_text olmo
olmo2 olmo3 phi phi3 falcon mpt stablelm starcoder2 persimmon cohere cohere2 glm glm4 granite nemotron helium smollm3 arcee
apertus bitnet biogpt xglm ctrl openai-gpt exaone4 ernie4_5 seed_oss hunyuan_v1_dense diffllama nanochat modernbert-decoder
mixtral qwen2_moe qwen3_moe olmoe phimoe gpt_oss jamba granitemoe deepseek_v2 deepseek_v3 dbrx jetmoe ernie4_5_moe
mamba mamba2 falcon_mamba recurrent_gemma rwkv lfm2 bamba
bert electra ernie roformer rembert megatron-bert big_bird roc_bert roberta camembert xlm-roberta data2vec-text reformer
bert-generation xlnet bart marian pegasus whisper trocr prophetnet phi4_multimodal
"""

TOML = {
    "name": "families",
    "data": {"source": "synthetic:zipf", "seq_len": 32, "val_windows": 8, "zipf": {"vocab_size": 256}},
    "model": {"head_size": 8, "depth": 2},
    "train": {"batch_tokens": 256, "warmup_steps": 2, "pack": "none"},
    "grid": {"widths": [32], "tokens": [4096]},
}


def outcome(model_type: str, options: dict[str, object]) -> str:
    """Trains, with its N and FLOPs; or refused, and why."""
    tree = TOML | {"model": {**TOML["model"], "family": f"hf:{model_type}", "options": options}}  # type: ignore[dict-item]
    config = check_config(tree, "")
    source = open_source(config.data)
    try:
        made = plan(config, source.facts)
        spec = made.grid[0]
        memory = estimate(spec).bytes
        learner = make_learner((spec,), source, torch.device("cpu"))
        for step in range(2):
            learner.optimise(step, 1.0)
        (loss,) = learner.loss_sums()
    except TestbedError as error:
        return f"refused: {error}"
    noted = "; ".join(sentence for sentence in made.warnings if sentence.startswith(f"hf:{model_type} "))
    counts = spec.counts
    flops = counts.flops_per_token / (6 * counts.n_params_non_embedding)
    return (
        f"trains: N {counts.n_params_non_embedding:,}, {flops:.2f} x 6 N FLOPs a token, {memory / 1e6:.1f} MB, first losses "
        f"{loss / 2:.3f}{'; ' * bool(noted)}{noted}"
    )


def main() -> None:
    """Print the table; exit with 1 if a type ends in anything but one of our errors."""
    torch.set_num_threads(1)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
    warnings.simplefilter("ignore")
    crashed = 0
    for model_type in sys.argv[1:] or TYPES.split():
        try:
            line = outcome(model_type, {})
        except Exception as error:
            line, crashed = f"CRASHED: {type(error).__name__}: {error}", 1
        print(f"{model_type} -> {' '.join(line.split())}", flush=True)
    sys.exit(crashed)


if __name__ == "__main__":
    main()
