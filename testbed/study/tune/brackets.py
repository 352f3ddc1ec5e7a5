"""The runs of the brackets: the grid's corner runs at several multiples of the rule's learning rate; starts none.

They differ from the grid's runs in their rates, keep the smallest and the largest horizon, and log only annealed
losses; one trunk gives both horizons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from testbed.config import Config
from testbed.errors import ConfigError
from testbed.records import DataFacts, RunSpec
from testbed.training.sweep import Rung, plan

FACTORS = (0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.8)
_LEAST_FACTORS = 5
_SEEDS = 2


@dataclass(frozen=True)
class Brackets:
    """What to bracket.

    Widths of the grid (None: the smallest and the largest), multiples of the rule's rate, further batches in tokens per
    step, and the number of the grid's seeds (None: two).
    """

    widths: tuple[int, ...] | None = None
    factors: tuple[float, ...] = FACTORS
    batches: tuple[int, ...] = ()
    seeds: int | None = None

    def specs(self, config: Config, facts: DataFacts, design: Sequence[Rung] | None = None) -> tuple[RunSpec, ...]:
        """Every run of the brackets; `design` are the grid's rungs if a design chose them.

        Raises:
            ConfigError: The widths, factors, batches or seeds do not fit the grid.
        """
        factors = self._factors()
        alone = config.model_copy(update={"target": None})
        own = plan(alone, facts, design).grid
        widths = self._widths(own)
        further = self._batches(config, own[0])
        grids = [own] + [plan(_with_batch(alone, batch), facts, design).grid for batch in further]
        runs = []
        for grid in grids:
            for width in widths:
                specs = [spec for spec in grid if spec.shape.width == width][: self._seeds(config)]
                runs += [_bracketed(spec, factor) for spec in specs for factor in factors]
        return tuple(runs)

    def _factors(self) -> tuple[float, ...]:
        for factor in self.factors:
            if not (math.isfinite(factor) and 0.01 <= factor <= 100):
                raise ConfigError(
                    f"--factors: found {factor:g}; accepted: multiples of the rule's rate from 0.01 to 100"
                )
        distinct = tuple(sorted(set(self.factors)))
        if len(distinct) < _LEAST_FACTORS or 1.0 not in distinct or distinct[0] == 1.0 or distinct[-1] == 1.0:
            raise ConfigError(
                f"--factors: found {', '.join(f'{f:g}' for f in self.factors)}; give at least {_LEAST_FACTORS} different "
                "multiples of the rule's rate, 1 among them and some on either side of it"
            )
        return distinct

    def _widths(self, grid: Sequence[RunSpec]) -> tuple[int, ...]:
        known = sorted({spec.shape.width for spec in grid})
        if self.widths is None:
            return tuple(dict.fromkeys((known[0], known[-1])))
        for width in self.widths:
            if width not in known:
                raise ConfigError(
                    f"--widths: found {width}, which is no width of the grid; accepted: {', '.join(map(str, known))}"
                )
        return tuple(sorted(set(self.widths)))

    def _batches(self, config: Config, own: RunSpec) -> tuple[int, ...]:
        for batch in self.batches:
            if batch <= 0 or batch % config.data.seq_len:
                raise ConfigError(
                    f"--batch: found {batch}; accepted: tokens a step, a multiple of data.seq_len ({config.data.seq_len})"
                )
        return tuple(sorted(set(self.batches) - {own.batch_tokens}))

    def _seeds(self, config: Config) -> int:
        if self.seeds is not None and self.seeds < 1:
            raise ConfigError(f"--seeds: found {self.seeds}; accepted: 1 up to the grid's number of seeds")
        return self.seeds or _SEEDS


def factor_of(spec: RunSpec, config: Config) -> float:
    """The multiple of the rule's rate at which a run learns.

    Taken from the rates, since a folder may hold brackets of earlier calls; six digits undo the rounding of the product.
    """
    return float(f"{spec.lr / config.train.lr:.6g}")


def _with_batch(config: Config, batch: int) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"batch_tokens": batch})})


def _bracketed(spec: RunSpec, factor: float) -> RunSpec:
    changes = {
        "role": "tune",
        "lr": spec.lr * factor,
        "lr_hidden": spec.lr_hidden * factor,
        "horizons": tuple(dict.fromkeys((spec.horizons[0], spec.horizons[-1]))),
        "trunk_evals": (),
        "branch_evals": 0,
    }
    return spec.model_copy(update=changes)
