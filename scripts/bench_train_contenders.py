"""Who is timed: the product's learners, transformers' Trainer, a plain loop, a matrix product. See bench_train.py.

All train a network of one width, depth, head size, vocabulary and window on the same ready windows of
tokens, by AdamW with clipping at 1; every one in fp32 on a CPU and in bf16 autocast on a GPU.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from testbed.config import Config
from testbed.config.loading import check_config
from testbed.models import find_family
from testbed.records import Counts, DataFacts, Engine, RunSpec
from testbed.sweep import plan
from testbed.train.device import make_repeatable
from testbed.train.learner import make_learner
from testbed.train.memory import available_bytes, fit_micro_rows, share_rows

POOL = 4096  # windows of ready tokens, taken in turn
RATE = 1e-3


@dataclass(frozen=True)
class Size:
    """A network and its batch."""

    name: str
    width: int
    depth: int
    head_size: int
    vocab_size: int = 256
    seq_len: int = 128
    batch_tokens: int = 2048

    @property
    def rows(self) -> int:
        """Windows in a batch."""
        return self.batch_tokens // self.seq_len

    def words(self) -> str:
        """For a table."""
        return f"{self.name}: width {self.width}, {self.depth} layers, heads of {self.head_size}, windows of {self.seq_len}"

    def counts(self) -> Counts:
        """Parameters and exact FLOPs a token, by the product's arithmetic."""
        family = find_family("gpt")
        shape = family.shape(self.width, self.config().model, self.vocab_size, self.seq_len)
        return family.counts(shape)

    def config(self, seeds: int = 1, steps: int = 10**6, **train: Any) -> Config:
        """A study of this one shape, with a horizon of so many steps."""
        return check_config(
            {
                "name": "bench",
                "data": {"source": "synthetic:zipf", "seq_len": self.seq_len},
                "model": {"head_size": self.head_size, "depth": self.depth},
                "train": {"batch_tokens": self.batch_tokens, "lr": RATE, **train},
                "grid": {
                    "widths": [self.width],
                    "tokens": [steps * self.batch_tokens],
                    "init_seeds": list(range(seeds)),
                },
            },
            "bench",
        )


class ReadyTokens:
    """A source of windows that are there already, so that no contender is timed on its data (see data.TokenSource)."""

    def __init__(self, size: Size) -> None:
        rng = np.random.default_rng(0)
        windows = min(POOL, max(64, 2**25 // size.seq_len))
        self._pool = rng.integers(0, size.vocab_size, (windows, size.seq_len + 1), dtype=np.uint16)
        self.facts = DataFacts(
            source="ready",
            tokenizer="none",
            vocab_size=size.vocab_size,
            seq_len=size.seq_len,
            first_scored=0,
            train_tokens=None,
            val_tokens=8 * size.seq_len,
            val_bytes=None,
            entropy=math.log(size.vocab_size),
            fingerprint="uniform",
        )

    def rows(self, data_seed: int, start: int, count: int) -> np.ndarray:
        """The windows from `start` on, over and over."""
        return self._pool[(start + data_seed + np.arange(count)) % len(self._pool)]

    def validation(self) -> np.ndarray:
        """The first eight windows."""
        return self._pool[:8]

    def tensor(self) -> Tensor:
        """All windows [n, T + 1], int64."""
        return torch.as_tensor(self._pool.astype(np.int64))


def specs(size: Size, source: ReadyTokens, engine: Engine, packs: int = 1, **train: Any) -> tuple[RunSpec, ...]:
    """The runs of so many packs of this engine; by the family's own module a pack is one run."""
    grid = plan(size.config(packs * (engine.pack or 1), **train), source.facts).grid
    return tuple(spec.model_copy(update={"engine": engine}) for spec in grid)


def settings(device: str, deterministic: bool) -> dict[str, Any]:
    """The part of the recipe that the device decides: every contender computes in bf16 on a GPU."""
    return {"precision": "bf16" if device == "cuda" else "fp32", "deterministic": deterministic}


def ours(tick: Callable[[], None], size: Size, device: str, engine: Engine, deterministic: bool) -> None:
    """A pack, or one run, through the product's learner."""
    source, where = ReadyTokens(size), torch.device(device)
    runs = specs(size, source, engine, **settings(device, deterministic))
    if device == "cuda" and engine.pack is None:
        runs = (_fitting(runs[0], available_bytes(where)),)
    make_repeatable(deterministic)
    learner = make_learner(runs, source, where)
    for step in count():
        learner.optimise(step, 1.0)
        tick()


def _fitting(spec: RunSpec, available: int) -> RunSpec:
    """The run in the largest passes that fit into the memory; its blocks computed twice where it must be."""
    for recompute in (False, True):
        tried = spec.model_copy(update={"engine": spec.engine.model_copy(update={"recompute": recompute})})
        rows = fit_micro_rows(tried, available)
        if rows is not None:
            engine = tried.engine.model_copy(update={"micro_rows": rows if rows < share_rows(tried) else None})
            return tried.model_copy(update={"engine": engine})
    raise MemoryError(f"not one window fits into {available} bytes")


def trainer(tick: Callable[[], None], size: Size, device: str) -> None:
    """The Trainer of transformers on GPT-2 of the same shape, timed from within its own loop by a callback."""
    source = ReadyTokens(size)
    steps = 1 << 20
    batches = Windows(source.tensor(), 4096 * size.rows)  # an epoch; its order is a list in memory
    make_trainer(gpt2(size), batches, size, device, steps, tick).train()


def gpt2(size: Size, seed: int = 0) -> nn.Module:
    """The GPT-2 of transformers in this shape: no dropout, no cache, SDPA, its activation in one kernel."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
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
            use_cache=False,
            activation_function="gelu_pytorch_tanh",
            attn_implementation="sdpa",
        )
    )


class Windows(torch.utils.data.Dataset):
    """Windows [n, T + 1] as batches that need no collating: a whole batch is gathered at once."""

    def __init__(self, windows: Tensor, length: int) -> None:
        self._windows, self._length = windows, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One window as a batch."""
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """The batch of these rows; labels are shifted already, so that every contender scores the same targets."""
        windows = self._windows[torch.as_tensor(indices) % len(self._windows)]
        ids, targets = windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
        return {"input_ids": ids, "labels": targets, "shift_labels": targets}


def make_trainer(
    network: nn.Module,
    batches: Windows,
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
    arguments = TrainingArguments(**chosen | settings)
    made = Trainer(network, arguments, data_collator=_as_is, train_dataset=batches, callbacks=[EachStep()])
    made.remove_callback(PrinterCallback)
    return made


def _as_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch


def plain_loop(tick: Callable[[], None], size: Size, device: str, compiled: bool) -> None:
    """A loop as one writes it by hand: forward, backward, clip, fused AdamW; nothing logged."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if device == "cuda" else "highest")
    network: Any = PlainGPT(size).to(device)
    matrices = [p for p in network.parameters() if p.dim() >= 2]
    others = [p for p in network.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)
    if compiled:
        network = torch.compile(network)
    for ids, targets in _batches(size, device):
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = network(ids)
            loss = F.cross_entropy(logits.view(-1, size.vocab_size), targets.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tick()


def _batches(size: Size, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    windows = ReadyTokens(size).tensor().to(device)
    for step in count():
        start = step * size.rows % (len(windows) - size.rows)
        batch = windows[start : start + size.rows]
        yield batch[:, :-1], batch[:, 1:]


class PlainGPT(nn.Module):
    """GPT-2 by hand, with the usual economies: no biases, tied head, SDPA, exact GELU. Ids [B, T] to logits [B, T, V]."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocab_size, size.width)
        self.positions = nn.Embedding(size.seq_len, size.width)
        self.blocks = nn.ModuleList(PlainBlock(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, bias=False)
        self.head = nn.Linear(size.width, size.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                scale = math.sqrt(2 * size.depth) if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(weight, std=0.02 / scale)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class PlainBlock(nn.Module):
    """Attention and feed-forward, each after a norm and added to what came in."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        d = size.width
        self.heads = d // size.head_size
        self.norm1, self.norm2 = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """From [B, T, d] to the same shape."""
        B, T, d = x.shape
        parts = self.qkv(self.norm1(x)).split(d, dim=2)
        q, k, v = (part.view(B, T, self.heads, d // self.heads).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def matmul(tick: Callable[[], None], side: int, device: str) -> None:
    """Products of two square matrices in the type that the contenders compute in."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    while True:
        torch.mm(a, b, out=out)
        tick()
