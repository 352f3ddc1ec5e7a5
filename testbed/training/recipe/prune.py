"""Magnitude pruning while training, on a cubic schedule (arXiv:1710.01878, eq. 1; arXiv:2501.12486 for its law)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from testbed.config.strict import Table
from testbed.records import Counts, Horizon

if TYPE_CHECKING:
    from torch import Tensor, nn


class Prune:
    """Sets the smallest weights of each hidden matrix to zero, a growing share of them up to `final`."""

    branches = False  # how far it is depends on the horizon

    class Settings(Table):
        """[train.prune]"""

        final: float = Field(
            0.5, ge=0, lt=1, description="share of the hidden matrices' weights that is zero at the end"
        )
        begin: float = Field(0.25, ge=0, le=1, description="share of the steps after which pruning begins")
        end: float = Field(0.75, ge=0, le=1, description="and after which its final share is reached")
        every: int = Field(10, ge=1, description="steps from one choice of weights to the next")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def share(self, step: int, horizon: Horizon) -> float:
        """The share of zeros at optimiser step `step`."""
        own = self.settings
        done = (step / horizon.steps - own.begin) / max(own.end - own.begin, 1e-9)
        return float(own.final * (1 - (1 - min(max(done, 0.0), 1.0)) ** 3))

    def columns(self, counts: Counts, horizon: Horizon) -> dict[str, float]:
        """`n_average`: parameters left, averaged over the steps (arXiv:2501.12486); `sparsity`: the final share of zeros."""
        mean = sum(self.share(step, horizon) for step in range(horizon.steps)) / horizon.steps
        return {"n_average": counts.n_params_non_embedding * (1 - mean), "sparsity": self.settings.final}

    def attach(self, network: nn.Module, hidden: set[str], horizon: Horizon) -> _Masks:
        """Masks of the hidden matrices."""
        matrices = {name: p for name, p in network.named_parameters() if name in hidden}
        return _Masks(self, matrices, horizon)


class _Masks:
    def __init__(self, rule: Prune, matrices: dict[str, nn.Parameter], horizon: Horizon) -> None:
        import torch

        self._rule, self._horizon, self._matrices = rule, horizon, matrices
        self._masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in matrices.items()}

    def seek(self, step: int) -> None:
        if step % self._rule.settings.every == 0:
            for name, matrix in self._matrices.items():
                zeros = round(self._rule.share(step, self._horizon) * matrix.numel())
                if zeros:
                    sizes = matrix.detach().abs()
                    self._masks[name].copy_(sizes > sizes.flatten().kthvalue(zeros).values)

    def finish(self) -> None:
        for name, matrix in self._matrices.items():
            matrix.data.mul_(self._masks[name])

    def state(self) -> dict[str, Tensor]:
        return {f"mask/{name}": mask for name, mask in self._masks.items()}
