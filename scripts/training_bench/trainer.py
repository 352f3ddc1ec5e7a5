"""The Trainer of transformers as a contender, at its best and as it comes. See __init__.py.

Both train the GPT-2 of transformers without dropout on tokens that lie ready in memory, and log, save and
evaluate nothing. At its best: fused GELU, no cache, whole batches gathered at once in place of collated
windows, compiled on a GPU, and the memory settings that the product gives its own workers.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scripts.training_bench.crew import Entry
from scripts.training_bench.sizes import RATE, ReadyTokens, Size

EPOCH = 4096  # batches; the order of an epoch is a list in memory
ENDLESS = 1 << 20  # steps


def trainer_entry(size: Size, device: str, best: bool) -> Entry:
    """Trainer as a contender."""
    return Entry(trainer, (size, device, best), size.batch_tokens, keeps_memory=best)


def trainer(tick: Callable[[], None], size: Size, device: str, best: bool) -> None:
    """Trainer, timed from within its own loop by a callback."""
    windows, length = ReadyTokens(size).tensor(), EPOCH * size.rows
    if best:
        made = make_trainer(gpt2(size), Batches(windows, length), size, device, ENDLESS, tick)
    else:
        made = make_trainer(gpt2(size, best=False), Items(windows, length), size, device, ENDLESS, tick, **AS_IT_COMES)
    made.train()


AS_IT_COMES: dict[str, Any] = {"torch_compile": False, "logging_nan_inf_filter": True, "remove_unused_columns": True}


def gpt2(size: Size, seed: int = 0, best: bool = True) -> nn.Module:
    """The GPT-2 of transformers in this shape, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    quick = {"use_cache": False, "activation_function": "gelu_pytorch_tanh"}  # the same function in one kernel
    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=size.width,
            n_layer=size.depth,
            n_head=size.width // size.head_size,
            vocab_size=size.vocab_size,
            n_positions=size.seq_len,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            attn_implementation="sdpa",
            **quick if best else {},
        )
    )


class Items(torch.utils.data.Dataset):
    """Windows [n, T + 1] over and over, one at a time, as datasets usually are."""

    def __init__(self, windows: Tensor, length: int) -> None:
        self._windows, self._length = windows, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Ids and labels [T]; the network shifts the labels itself, and so scores one target less."""
        ids = self._windows[index % len(self._windows), :-1]
        return {"input_ids": ids, "labels": ids}


class Batches(Items):
    """The same windows as batches that need no collating: all rows of a batch are gathered at once."""

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """The batch [B, T] of these windows; labels are shifted already, so that every target is scored."""
        windows = self._windows[torch.as_tensor(indices) % len(self._windows)]
        ids, targets = windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
        return {"input_ids": ids, "labels": targets, "shift_labels": targets}


def make_trainer(
    network: nn.Module,
    data: Items,
    size: Size,
    device: str,
    steps: int,
    tick: Callable[[], None] | None = None,
    **settings: Any,
) -> Any:
    """A Trainer with everything off that costs time and does not train; `tick` is called after each step."""
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    logging.getLogger("transformers").setLevel(logging.ERROR)
    cuda = device == "cuda"

    class EachStep(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if tick is not None:
                tick()

    chosen = {
        "output_dir": tempfile.gettempdir(),
        "max_steps": steps,
        "per_device_train_batch_size": size.rows,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 100,
        "weight_decay": 0.1,
        "adam_beta2": 0.95,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "bf16": cuda,
        "tf32": True if cuda else None,
        "torch_compile": cuda,
        "use_cpu": not cuda,
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_drop_last": True,
        "dataloader_pin_memory": cuda,
        "remove_unused_columns": False,
        "seed": 0,
    }
    collator = _as_is if isinstance(data, Batches) else None
    arguments = TrainingArguments(**chosen | settings)
    made = Trainer(network, arguments, data_collator=collator, train_dataset=data, callbacks=[EachStep()])
    made.remove_callback(PrinterCallback)
    return made


def _as_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch
