"""The protocol of a part of a training step: it acts on the network in every step (pruning, averages of weights)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import BaseModel

from testbed.records import Counts, Horizon

if TYPE_CHECKING:  # a plan is made without it
    from torch import Tensor, nn


class Part(Protocol):
    """A part of a recipe: its columns in a plan and its action on a network. `branches` as in `Schedule`."""

    branches: ClassVar[bool]
    Settings: ClassVar[type[BaseModel]]

    def columns(self, counts: Counts, horizon: Horizon) -> dict[str, float]:
        """Columns of the points table that the part adds or changes for a run to this horizon."""
        ...

    def attach(self, network: nn.Module, hidden: set[str], horizon: Horizon) -> Attached:
        """The part attached to `network`; `hidden` names its hidden matrices, `horizon` is the run's last."""
        ...


class Attached(Protocol):
    """A part attached to a network."""

    def seek(self, step: int) -> None:
        """Before step `step` (from 0), on the host; may differ from step to step."""
        ...

    def finish(self) -> None:
        """After the optimiser's step, on the device; the same operations at every step, since a CUDA graph captures them."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The tensors that change while training (not copies), for the checkpoint."""
        ...
