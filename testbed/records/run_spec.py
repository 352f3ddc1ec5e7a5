"""The plan of one run, settled in full before it starts: its shape and costs, its path and its identity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field

from testbed.config.identity import Label, Later
from testbed.files import digest
from testbed.records.record import Positive, Record, Whole

Role = Literal["grid", "target", "tune"]
Precision = Literal["fp32", "tf32", "bf16"]


Value = bool | int | float | str

_SEEDS_AND_RATES = ("init_seed", "data_seed", "lr", "lr_hidden")
_PATH = ("horizons", "trunk_evals", "branch_evals", "schedule", "warmup_steps")


class Shape(Record):
    """One rung of a ladder: everything that decides the form of the network."""

    family: str
    width: Positive
    depth: Positive
    heads: Positive
    head_size: Positive
    vocab_size: Positive
    seq_len: Positive
    options: dict[str, int | float | bool | str] = Field(default_factory=dict)


class Counts(Record):
    """Parameters and training cost of a shape, by arithmetic.

    `n_params_non_embedding` leaves out the token (and position) embedding and the output head;
    `n_params_total` counts every distinct parameter once. `flops_per_token` are exact training
    FLOPs: 3 x the forward matrix products (2 per multiply-add), attention scores over the whole
    window and head included. `flops_6nd` of a run is 6 x n_params_non_embedding x tokens
    (arXiv:2001.08361, section 2.1). `more` are counts that only some families have, by column name.
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
    """The facts of an opened token source that a plan needs, and the fingerprint of its tokens.

    `train_tokens` is None for an unlimited source, `entropy` (nats/token) where the true entropy is
    unknown. `first_scored` is the first position of a window whose target counts in the loss.
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
    """A token count at which an annealed loss is taken; its cooldown starts after `branch_step` steps."""

    tokens: Positive
    steps: Positive
    branch_step: Whole

    def eval_steps(self, count: int) -> tuple[int, ...]:
        """Steps of the cooldown at which the loss is logged: `count` inside, evenly spaced, and the last."""
        length = self.steps - self.branch_step
        inside = {self.branch_step + round(length * (i + 1) / (count + 1)) for i in range(count)}
        return tuple(sorted((inside | {self.steps}) - {self.branch_step}))


@dataclass(frozen=True)
class Segment:
    """A stretch of a run's path: optimiser steps `start` to `end` on the trunk, or on the branch to a horizon.

    Steps count from the start of the model on this path, so a branch begins at its branch point.
    `eval_steps` are those after which the loss is logged.
    """

    start: int
    end: int
    branch: Horizon | None
    eval_steps: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Optimiser steps of this stretch; 0 for a trunk from which two horizons branch at one step."""
        return self.end - self.start

    @property
    def eval_keys(self) -> tuple[tuple[int | None, int], ...]:
        """`Eval.key` of each evaluation."""
        path = self.branch.tokens if self.branch else None
        return tuple((path, step) for step in self.eval_steps)


class Design(NamedTuple):
    """What the seeds of a study repeat: a cell of the grid's axes with its width and its horizon in tokens."""

    cell: tuple[tuple[str, Value], ...]
    width: int
    tokens: int


class Engine(Record):
    """How the arithmetic of a run is carried out; it decides the rounding, so it is part of the run's identity.

    `pack` is the number of runs of one kind that the packed engine trains side by side, this one
    included; None is the family's own module, for this run alone, and the other fields are about that.
    `micro_rows` are the windows of one forward and backward pass in each process (None: all of its
    windows at once). `recompute` keeps only the inputs of blocks and computes blocks again in the
    backward pass. `processes` (GPUs) share each batch; `sharded` splits weights, gradients and moments
    among them. `compile` uses torch.compile.
    """

    pack: Positive | None = None
    micro_rows: Positive | None = None
    recompute: bool = False
    processes: Positive = 1
    sharded: bool = False
    compile: bool = False


class RunSpec(Record):
    """One run: a trunk and the cooldown branches from it.

    `lr` is the peak learning rate of embeddings, head and norms, `lr_hidden` that of hidden
    matrices. `trunk_evals` are the trunk's steps at which the loss is logged, `branch_evals` the number
    of losses inside each cooldown. `retry_of` is the id of the diverged run that this one repeats at
    lower rates. `cell` holds the values of the grid's axes by dotted key, `columns` what the points table
    shows besides; both follow from the configuration, so neither is in the identity.
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
    cell: Annotated[dict[str, Value], Label] = Field(default_factory=dict)
    columns: Annotated[dict[str, Value], Label] = Field(default_factory=dict)

    @cached_property
    def run_id(self) -> str:
        """Readable stem and a hash of everything that decides the result; also the folder's name."""
        identity = digest(self.identity())
        return f"w{self.shape.width:04d}-i{self.init_seed}-d{self.data_seed}-{identity[:10]}"

    @cached_property
    def kind(self) -> str:
        """Digest of everything but seeds, learning rates and labels: equal for runs that may be packed together."""
        return self._digest_without(*_SEEDS_AND_RATES)

    @cached_property
    def step_kind(self) -> str:
        """`kind` without the path (horizons, evaluations, schedule): equal for runs whose optimiser steps cost the same."""
        return self._digest_without(*_SEEDS_AND_RATES, *_PATH)

    @cached_property
    def planned_id(self) -> str:
        """Digest of the run as its configuration plans it, whichever engine is chosen to train it."""
        return self._digest_without("engine")

    @property
    def designs(self) -> tuple[Design, ...]:
        """The design of each annealed loss, by horizon."""
        cell = tuple(sorted(self.cell.items()))
        return tuple(Design(cell, self.shape.width, horizon.tokens) for horizon in self.horizons)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The run's path: for each horizon the trunk up to its branch point, then its branch."""
        path: list[Segment] = []
        start = 0
        for horizon in self.horizons:
            end = horizon.branch_step
            path += [
                Segment(start, end, None, tuple(step for step in self.trunk_evals if start < step <= end)),
                Segment(end, horizon.steps, horizon, horizon.eval_steps(self.branch_evals)),
            ]
            start = end
        return tuple(path)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run: the trunk up to its last branch point, and every branch."""
        return sum(segment.steps for segment in self.segments)

    @property
    def tokens(self) -> int:
        """Tokens that the whole run trains on."""
        return self.steps * self.batch_tokens

    @property
    def flops(self) -> int:
        """Exact training FLOPs of the whole run."""
        return self.tokens * self.counts.flops_per_token

    def __copy__(self) -> Self:
        """A copy of the fields alone: `model_copy` makes another run, with properties of its own."""
        copied = super().__copy__()
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    def _digest_without(self, *fields: str) -> str:
        return digest({name: value for name, value in self.identity().items() if name not in fields})
