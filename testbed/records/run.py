"""One run: its shape and costs, its plan and identity, what it logs and how it ends."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from testbed.files import digest
from testbed.identity import Label, Later
from testbed.records.record import Flops, Positive, Record, Whole

Phase = Literal["stable", "decaying", "annealed"]
Role = Literal["grid", "target", "tune"]
Precision = Literal["fp32", "tf32", "bf16"]


class Shape(Record):
    """One rung of a ladder: everything that decides the network's form."""

    family: str
    width: Positive
    depth: Positive
    heads: Positive
    head_size: Positive
    vocab_size: Positive
    seq_len: Positive
    options: dict[str, int | float | bool | str] = Field(default_factory=dict)


class Counts(Record):
    """What a shape costs, by arithmetic.

    `n_params_non_embedding` leaves out the token (and position) embedding and the output head;
    `n_params_total` counts every distinct parameter once. `flops_per_token` are exact training
    FLOPs: 3 x the forward matrix products (2 per multiply-add), attention scores over the whole
    window and head included. `flops_6nd` of a run is 6 x n_params_non_embedding x tokens
    (arXiv:2001.08361, section 2.1).
    """

    n_params_non_embedding: Positive
    n_params_total: Positive
    flops_per_token: Positive
    more: Annotated[dict[str, float], Later] = Field(default_factory=dict)


class Component(Record):
    """A schedule or another part of a run's training, by its registered name, with its settings."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)


class DataFacts(Record):
    """What a plan needs to know of an opened token source, and what identifies its tokens.

    `train_tokens` and `entropy` (nats/token) are None where there is no limit and where the truth
    is unknown; `first_scored` is the first position of a window whose target counts in the loss.
    """

    source: str
    tokenizer: str
    vocab_size: Positive
    seq_len: Positive
    first_scored: Whole
    train_tokens: Whole | None
    val_tokens: Positive
    val_bytes: Positive | None
    entropy: float | None
    fingerprint: str


class Horizon(Record):
    """A token count at which an annealed loss is taken; the cooldown starts after `branch_step` steps."""

    tokens: Positive
    steps: Positive
    branch_step: Whole


class Engine(Record):
    """How a run's arithmetic is carried out; it decides the rounding, so it is part of the run's identity.

    `pack` is the number of runs of one shape that the packed engine trains side by side, this one
    included; None is the family's own module and this run alone, which the other fields are about.
    `micro_rows` are the windows of one forward and backward pass in each process (None: all of its
    windows at once), `recompute` says that blocks keep their inputs only and are computed again on the
    way back, `processes` is the number of processes (GPUs) that share each batch, `sharded` that each
    holds its part only of weights, gradients and moments, `compile` that torch.compile makes its kernels.
    """

    pack: Positive | None = None
    micro_rows: Positive | None = None
    recompute: bool = False
    processes: Positive = 1
    sharded: bool = False
    compile: bool = False


class RunSpec(Record):
    """One run, settled in full before it starts: a trunk and its cooldown branches.

    `lr` is the peak learning rate of embeddings, head and norms, `lr_hidden` that of hidden
    matrices. `trunk_evals` are the trunk's steps at which the loss is logged. `retry_of` is the run that diverged
    and that this one, at lower rates, was tried in place of; it decides nothing, so it is not in the
    run's identity.
    """

    role: Annotated[Role, Label]
    shape: Shape
    counts: Counts
    data: DataFacts
    init_seed: Whole
    data_seed: Whole
    horizons: Annotated[tuple[Horizon, ...], Field(min_length=1)]
    batch_tokens: Positive
    lr: float
    lr_hidden: float
    warmup_steps: Whole
    weight_decay: float
    betas: tuple[float, float]
    clip: float | None
    precision: Precision
    deterministic: bool
    trunk_evals: tuple[Whole, ...]
    branch_evals: Whole
    engine: Engine = Engine()
    retry_of: Annotated[str | None, Label] = None
    schedule: Annotated[Component, Later] = Component(name="wsd")
    parts: Annotated[tuple[Component, ...], Later] = ()
    cell: Annotated[dict[str, int | float | str | bool], Label] = Field(default_factory=dict)
    columns: Annotated[dict[str, bool | int | float | str], Label] = Field(default_factory=dict)

    @cached_property
    def run_id(self) -> str:
        """Readable stem and a hash of everything that decides the result; also the folder's name."""
        identity = digest(self.identity())
        return f"w{self.shape.width:04d}-i{self.init_seed}-d{self.data_seed}-{identity[:10]}"

    def __copy__(self) -> Self:
        """For model_copy, whose copy is another run."""
        copied = super().__copy__()
        copied.__dict__.pop("run_id", None)
        return copied

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run: the trunk up to its last branch, and every cooldown."""
        return self.horizons[-1].branch_step + sum(h.steps - h.branch_step for h in self.horizons)

    @property
    def tokens(self) -> int:
        """Tokens the whole run trains on."""
        return self.steps * self.batch_tokens

    @property
    def flops(self) -> int:
        """Training FLOPs that the whole run spends."""
        return self.tokens * self.counts.flops_per_token


class Eval(Record):
    """One loss on the frozen validation tokens.

    `tokens`, `step` and `flops` are what this model has seen and cost as if trained alone (a branch
    counts its trunk up to the branch point, and no other branch). `horizon` is the branch's token
    count, None on the trunk. `train_loss` is the mean since the evaluation before on this path.
    """

    phase: Phase
    horizon: Positive | None
    step: Whole
    tokens: Whole
    flops: Flops
    loss: float
    bpb: float | None
    train_loss: float | None
    lr: float
    seconds: float

    @property
    def key(self) -> tuple[int | None, int]:
        """What makes an evaluation of a run unique: its path and its step."""
        return self.horizon, self.step


class Provenance(Record):
    """What a run's numbers came from."""

    started: str
    versions: dict[str, str]
    python: str
    platform: str
    device: str
    cpu_capability: str
    threads: int
    deterministic: bool
    commit: str | None
    data_fingerprint: str


class Done(Record):
    """The end of a run: what it really did, to be held against the plan."""

    finished: str
    steps: Whole
    tokens: Whole
    flops: Flops
    seconds: float


class Notice(Record):
    """Something that went wrong in a run and was mended, so that its losses are what they are all the same."""

    at: str
    message: str


class Failed(Record):
    """The end of a run that gave no losses, with the reason; `diverged` where its loss was the reason."""

    finished: str
    reason: str
    details: str
    diverged: bool = False
