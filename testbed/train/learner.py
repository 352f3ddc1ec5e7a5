"""What a learner is: the mutable part of runs of one shape that are trained side by side.

The loop decides when to step, evaluate and branch; a learner does the arithmetic. K is the number of runs.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from testbed.data import TokenSource
from testbed.records import RunSpec
from testbed.train.device import set_precision


class Learner(Protocol):
    """K networks with their optimisers; all runs do the same steps at the same share of their peak rates."""

    def optimise(self, step: int, factor: float) -> None:
        """One optimiser step on the batch of step `step` (from 0) at `factor` times the peak learning rates."""
        ...

    def loss_sums(self) -> list[float]:
        """Sum over the steps since `clear_losses` of each run's mean training loss in nats/token [K]; waits for the device."""
        ...

    def clear_losses(self) -> None:
        """Start the sums anew."""
        ...

    def validate(self) -> list[float]:
        """Each run's loss in nats/token [K] on the frozen validation windows."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that changes while training, by name; tensors of the learner's own, not copies."""
        ...

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state; the learner then goes on as the one that gave it would."""
        ...

    def weights(self, run: int) -> dict[str, Tensor]:
        """The weights of run `run` (from 0) under the parameter names of its family's network."""
        ...


def make_learner(specs: tuple[RunSpec, ...], source: TokenSource, device: torch.device) -> Learner:
    """The learner that the specs name: packed runs together, or one run by its family's own module."""
    from testbed.train.module import ModuleLearner

    set_precision(specs[0].precision, device)
    if specs[0].engine.pack is None:
        (spec,) = specs
        return ModuleLearner(spec, source, device)
    from testbed.train.packed import PackedLearner

    return PackedLearner(specs, source, device)
