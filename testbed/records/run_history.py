"""The history of one run: its losses, where its numbers come from, and its end."""

from __future__ import annotations

from typing import Literal

from testbed.records.record import Flops, Positive, Record, Whole

Phase = Literal["stable", "decaying", "annealed"]


class Eval(Record):
    """One loss (nats/token) on the frozen validation tokens, with `bpb` in bits/byte where bytes are known.

    `step`, `tokens` and `flops` are what this model has seen and cost as if trained alone (a branch
    counts its trunk up to the branch point, and no other branch). `horizon` is the branch's token
    count, None on the trunk. `train_loss` is the mean since the previous evaluation on this path,
    `seconds` the training time of the run so far.
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
        """Path (the horizon's tokens, None on the trunk) and step: unique among the evaluations of a run."""
        return self.horizon, self.step


class Provenance(Record):
    """The software and hardware that a run was started with."""

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
    """The end of a finished run, with the steps, tokens and FLOPs that it really did."""

    finished: str
    steps: Whole
    tokens: Whole
    flops: Flops
    seconds: float


class Notice(Record):
    """A problem that was repaired while the run was trained, without an effect on its losses."""

    at: str
    message: str


class Failed(Record):
    """The end of a failed run, with the reason and a traceback; `diverged` where the loss was the reason."""

    finished: str
    reason: str
    details: str
    diverged: bool = False
