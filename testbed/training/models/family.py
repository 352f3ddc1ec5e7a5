"""The protocol of a model family: from a width to a whole shape, its parameters and FLOPs, and the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from testbed.config import Model
from testbed.records import Counts, Shape

if TYPE_CHECKING:
    import torch


class Family(Protocol):
    """A recipe of shapes. Adding one means one class like this and its line in FAMILIES.

    Its networks are causal: the logits at position t depend on ids 0 to t only. They can be traced on shapes alone,
    without data (the memory of a run is found so): whatever reads a tensor's values, such as `nonzero`, `item` or an
    `if` on a tensor, has to be written with masks. Nothing in a layer is random, since each may be computed twice.

    A family may also have `layers(network)`: the network's layers in order, each of which may be recomputed on the way
    back, or held in shards. Without it they are the network's longest ModuleList, so a network with a longer list of
    something else (experts) needs it.
    """

    def shape(self, width: int, rule: Model, vocab_size: int, seq_len: int) -> Shape:
        """The rung of this width."""
        ...

    def counts(self, shape: Shape) -> Counts:
        """Parameters and training FLOPs of the rung, without building it."""
        ...

    def build(self, shape: Shape, init_seed: int) -> torch.nn.Module:
        """The network with weights drawn from `init_seed` alone; maps ids [B, T] to logits [B, T, vocab].

        It may have a method `hidden`, ids to states [B, T, d], and a module `head`, states to logits; then
        logits that would take too much memory at once are made in chunks.
        """
        ...

    def hidden_matrices(self, network: torch.nn.Module) -> set[str]:
        """Names of the parameters whose learning rate shrinks with width (arXiv:2203.03466, table 8)."""
        ...


def depth_of(width: int, rule: Model) -> int:
    """Layers of a rung: fixed, or in proportion to the width and at least 2."""
    if rule.depth is not None:
        return rule.depth
    assert rule.width_per_layer is not None
    return max(2, round(width / rule.width_per_layer))
