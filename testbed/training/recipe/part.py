"""What a part of a recipe is: something that acts on the network in every step, such as pruning or an average of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import BaseModel

from testbed.records import Counts, Horizon

if TYPE_CHECKING:  # a plan is made without it
    from torch import Tensor, nn


class Part(Protocol):
    """What it is in a plan, and what it does to a network. `branches` as in a schedule."""

    branches: ClassVar[bool]
    Settings: ClassVar[type[BaseModel]]

    def columns(self, counts: Counts, horizon: Horizon) -> dict[str, float]:
        """Columns of the points table that it adds or changes for a run of this length."""
        ...

    def attach(self, network: nn.Module, hidden: set[str], horizon: Horizon) -> Attached:
        """What acts on `network`, whose matrices `hidden` names; `horizon` is the run's last."""
        ...


class Attached(Protocol):
    """A part at work."""

    def seek(self, step: int) -> None:
        """The host's half of step `step` (from 0), before it; may do other work at other steps."""
        ...

    def finish(self) -> None:
        """The device's half, after the optimiser has stepped: the same work at every step."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What changes while training, for the checkpoint; tensors of its own, not copies."""
        ...
