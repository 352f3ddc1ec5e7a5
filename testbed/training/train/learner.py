"""The protocol of a learner: the mutable part of a pack of K runs of one shape.

The loop decides when to step, evaluate and branch; a learner does the arithmetic.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from testbed.records import RunSpec


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
