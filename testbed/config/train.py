"""The table [train]: the training recipe."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from testbed.config.identity import Later
from testbed.config.strict import OpenTable
from testbed.config.values import BatchTokens, Clip, Text, Texts, as_tuple


class Train(OpenTable):
    """The table [train], the same for every run; learning rates scale with width by a rule (see `base_width`)."""

    batch_tokens: BatchTokens = Field("auto", description='tokens in an optimiser step, or "auto"')
    lr: float = Field(0.006, gt=0, description="peak learning rate of embeddings, head and norms")
    base_width: int = Field(32, ge=1, description="hidden matrices learn at lr * base_width / width")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    cooldown: float = Field(0.2, gt=0, lt=1, description="share of a horizon's steps spent decaying to 0")
    schedule: Annotated[Text, Later] = Field(
        "wsd", description='"wsd", "cosine" or "package.module:Schedule"; it has a table'
    )
    parts: Annotated[Texts, Later] = Field(
        (), description='further parts of a training step: "prune", "package.module:Part"; each has a table'
    )
    weight_decay: float = Field(0.1, ge=0, description="decay of hidden matrices, times their learning rate")
    betas: Annotated[tuple[float, float], BeforeValidator(as_tuple)] = Field((0.9, 0.95), description="AdamW's betas")
    clip: Clip = Field(1.0, ge=0, description='largest norm of the gradient; 0 or "none" for no clipping')
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32", description='"fp32", "tf32" (CUDA: fp32 with rounded products) or "bf16" (autocast, fp32 weights)'
    )
    deterministic: bool = Field(True, description="use deterministic kernels only")
    pack: Literal["auto", "none"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description='runs of one shape trained side by side: "auto" (measured), "none" or the largest number'
    )
    micro_rows: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description='windows of one forward and backward pass; "auto" is the fastest number that fits'
    )
    recompute: Literal["auto"] | bool = Field(
        "auto", description='compute blocks again in the backward pass: true, false or "auto" (where memory is short)'
    )
    processes: int = Field(1, ge=1, le=64, description="processes (GPUs of one machine) that train each run together")
    sharded: Literal["auto"] | bool = Field(
        "auto",
        description='split weights and moments among the processes: true, false or "auto" (where copies do not fit)',
    )
    compile: Literal["auto"] | bool = Field(
        "auto", description='torch.compile for single runs: true, false or "auto" (on CUDA, where it pays)'
    )
    retry_lr: Annotated[float | None, Later] = Field(
        None, gt=0, lt=1, description="retry each diverged grid run once, with its learning rates times this factor"
    )
    trunk_evals: int = Field(6, ge=0, le=1000, description="losses logged on a trunk in addition to its branch points")
    branch_evals: int = Field(1, ge=0, le=100, description="losses logged inside each cooldown")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas are two numbers from 0 up to, not including, 1")
        return self
