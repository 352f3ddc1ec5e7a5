"""The protocol of a learner: the mutable part of a pack of K runs of one shape.

The loop decides when to step, evaluate and branch; a learner does the arithmetic.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from testbed.files import digest
from testbed.records import RunSpec
from testbed.training.data import TokenSource
from testbed.training.train import idle
from testbed.training.train.device.selection import set_precision
from testbed.training.train.feed import sharing
from testbed.training.train.memory.peak import give_back


class Learner(Protocol):
    """K networks with their optimisers; all runs do the same steps at the same share of their peak rates.

    Where memory runs out in a step, the step is repeated in passes of half as many windows, equal but for
    rounding; `rows` are the windows of such a pass, None as long as passes are as the spec says.
    """

    rows: int | None

    def optimise(self, step: int, factor: float) -> None:
        """One optimiser step on the batch of step `step` (from 0) at `factor` times the peak learning rates."""
        ...

    def split(self, rows: int) -> None:
        """Make passes of at most `rows` windows from here on."""
        ...

    def notes(self) -> list[str]:
        """What went wrong since the last call and was handled, in sentences."""
        ...

    def loss_sums(self) -> list[float]:
        """Sum over the steps since `clear_losses` of each run's mean training loss in nats/token [K]; waits for the device."""
        ...

    def clear_losses(self) -> None:
        """Set the sums to 0."""
        ...

    def validate(self) -> list[float]:
        """Each run's loss in nats/token [K] on the frozen validation windows."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that changes while training, by name; tensors of the learner's own, not copies."""
        ...

    def layout(self) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shape and type of each tensor of `state`, the same in all processes; gathers nothing."""
        ...

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state; the learner then continues as the one that gave it would."""
        ...

    def weights(self, run: int) -> dict[str, Tensor]:
        """The weights of run `run` (from 0) under the parameter names of its family's network."""
        ...

    def restart(self, specs: tuple[RunSpec, ...]) -> None:
        """Start other runs of the same kind in the same memory, so with the same captured step."""
        ...


_IDLE_SHARE = 0.25  # of a device's memory that may be in use when another learner is made beside idle ones


def make_learner(specs: tuple[RunSpec, ...], source: TokenSource, device: torch.device) -> Learner:
    """A learner for these runs: a pack of them, or one run by its family's own module.

    An idle learner of the same kind is used again where there is one, since its step is captured and compiled.
    """
    from testbed.training.train.module_learner import ModuleLearner
    from testbed.training.train.packed_learner import PackedLearner

    set_precision(specs[0].precision, device)
    alike = idle.take(_likeness(specs, device))
    if alike is not None:
        alike.restart(specs)
        return alike
    if idle.any_kept() and torch.cuda.memory_reserved(device) > _IDLE_SHARE * torch.cuda.mem_get_info(device)[1]:
        give_back()
    if specs[0].engine.pack is None:
        (spec,) = specs
        return ModuleLearner(spec, source, device)
    return PackedLearner(specs, source, device)


def retire(learner: Learner, specs: tuple[RunSpec, ...], device: torch.device) -> None:
    """Keep the learner of finished runs for others of the same kind; the caller must not use it any more.

    A learner whose recipe has parts is not kept: their state belongs to the run.
    """
    first = specs[0]
    if device.type == "cuda" and first.engine.processes == 1 and learner.rows is None and not first.parts:
        idle.keep(_likeness(specs, device), learner)


def _likeness(specs: tuple[RunSpec, ...], device: torch.device) -> str:
    """A name that packs share which one learner can train after each other.

    That takes more than one kind of step: a captured step also holds which runs of the pack share an order
    of the data (they share its memory), and which share a learning rate (they share an update).
    """
    updates = [update for spec in specs for update in ((spec.lr, 0.0), (spec.lr_hidden, spec.weight_decay))]
    equal = [updates.index(update) for update in updates]
    return digest([specs[0].step_kind, sharing(specs), equal, str(device)])
