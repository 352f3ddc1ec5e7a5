"""The runs that could be trained, and what each costs.

A run is a trunk at one size with a cooldown at each of its horizons: the trunk is paid for once, up to where the last
cooldown branches off, and each horizon adds its own cooldown. So a shorter horizon on a trunk that is trained anyway
costs a fifth of a run of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from testbed.errors import ConfigError

Array = NDArray[np.float64]

_MOST_HORIZONS = 8  # of one rung, since every subset of them is an option


@dataclass(frozen=True)
class Option:
    """A run that could be trained: its rung, the numbers of its horizons and of its cells, and its training FLOPs."""

    rung: int
    horizons: tuple[int, ...]
    cells: tuple[int, ...]
    flops: float


@dataclass(frozen=True)
class Candidates:
    """Rungs to choose from, and the horizons of each.

    `names` [W] are the rungs' (their widths), `n` [W] their parameters and `flops_per_token` [W] their exact training
    cost; `tokens` [W, T] are the horizons, ascending, and `cooldown` [W, T] the tokens of each that are spent decaying.
    Without `branches` every horizon takes a run of its own. A cell is one rung at one horizon, numbered rung by rung.
    """

    names: tuple[int, ...]
    n: Array
    flops_per_token: Array
    tokens: Array
    cooldown: Array
    branches: bool = True

    @property
    def columns(self) -> dict[str, Array]:
        """n, tokens and flops of every cell [W T]."""
        return {
            "n": np.repeat(self.n, self.tokens.shape[1]),
            "tokens": self.tokens.ravel(),
            "flops": (self.tokens * self.flops_per_token[:, None]).ravel(),
        }

    def cost(self, rung: int, horizons: tuple[int, ...]) -> float:
        """The training FLOPs of one run of a rung with these horizons, given by their numbers in ascending order."""
        last = horizons[-1]
        trunk = self.tokens[rung, last] - self.cooldown[rung, last]
        return float(self.flops_per_token[rung] * (trunk + self.cooldown[rung, list(horizons)].sum()))

    def option(self, rung: int, horizons: tuple[int, ...]) -> Option:
        """The run of a rung with these horizons."""
        first = rung * self.tokens.shape[1]
        return Option(rung, horizons, tuple(first + h for h in horizons), self.cost(rung, horizons))

    def options(self, largest: float) -> tuple[Option, ...]:
        """Every run whose horizons each cost at most `largest` FLOPs.

        Raises:
            ConfigError: There is none, or a rung has more than eight horizons.
        """
        width, count = self.tokens.shape
        if self.branches and count > _MOST_HORIZONS:
            raise ConfigError(
                f"grid.tokens: found {count} candidate horizons; a design is chosen among at most {_MOST_HORIZONS}"
            )
        found = []
        for rung in range(width):
            affordable = [h for h in range(count) if self.tokens[rung, h] * self.flops_per_token[rung] <= largest]
            most = len(affordable) if self.branches else min(1, len(affordable))
            found += [
                self.option(rung, chosen) for size in range(1, most + 1) for chosen in combinations(affordable, size)
            ]
        if not found:
            least = float((self.tokens[:, 0] * self.flops_per_token).min())
            raise ConfigError(
                f"no candidate run costs {largest:.3g} FLOPs or less (the cheapest {least:.3g}); a run may take half of the "
                "target's FLOPs: give smaller widths or horizons, or a target further away"
            )
        return tuple(found)


def lattice(law_columns: Mapping[str, Array], n: float, tokens: float, per_axis: int = 12) -> Candidates:
    """Candidates from a table's smallest n and tokens up to a target's, evenly spread in their logarithms.

    `law_columns` are the table's n and tokens [rows]. Every run stands alone and costs 6 N D FLOPs.
    """
    sizes = np.geomspace(law_columns["n"].min(), n, per_axis)
    horizons = np.geomspace(law_columns["tokens"].min(), max(tokens, law_columns["tokens"].max()), per_axis)
    grid = np.tile(horizons, (per_axis, 1))
    return Candidates(tuple(range(per_axis)), sizes, 6 * sizes, grid, 0.2 * grid, branches=False)
