"""A configuration's ladder as candidates for a design, and a design as the rungs of a plan: pure arithmetic."""

from __future__ import annotations

import numpy as np

from testbed.config import Config
from testbed.design import Candidates, noise_of, optimal, prior_belief
from testbed.laws import find_law
from testbed.records import DataFacts, RunSpec
from testbed.sweep import Rung, plan

_SEEDS = 3  # of each width at least, where the configuration has as many: two seeds tell little of their noise
_MORE_CELLS = 3  # than the laws have parameters, so that two laws do not both go through every cell


def chosen_rungs(config: Config, facts: DataFacts) -> tuple[Rung, ...] | None:
    """The rungs of grid.design = "optimal", chosen from the prior; None where the whole grid is asked for.

    Nothing that was trained decides it: the same configuration gives the same runs.
    """
    grid = config.grid
    if grid.design is None or grid.budget is None:
        return None
    specs, target = rung_specs(config, facts), target_columns(config, facts)
    candidates = candidates_of(specs, config.forecast.n)
    noise, _ = noise_of(config.data.source)
    settings = config.forecast
    assert config.target is not None
    belief = prior_belief(settings.laws, candidates, target, noise, len(config.target.init_seeds))
    per_seed = 1 if grid.data_seeds == "own" else len(grid.data_seeds)  # a seed is a run with each of the orders
    laws = [find_law(name) for name in (*settings.laws, *settings.beside)]
    taken = optimal(
        belief,
        candidates,
        target["flops"],
        grid.budget / per_seed,
        least=min(_SEEDS, len(grid.init_seeds)),
        most=len(grid.init_seeds),
        cells=max(len(law.parameters) for law in laws) + _MORE_CELLS,
    )
    return tuple(
        Rung(
            width=specs[one.rung].shape.width,
            tokens=tuple(specs[one.rung].horizons[h].tokens for h in one.horizons),
            seeds=one.seeds,
        )
        for one in taken
    )


def rung_specs(config: Config, facts: DataFacts) -> tuple[RunSpec, ...]:
    """One run of each width of the grid with all its horizons, by ascending width."""
    every = plan(config.model_copy(update={"target": None}), facts).grid
    return tuple({spec.shape.width: spec for spec in sorted(every, key=lambda spec: spec.shape.width)}.values())


def candidates_of(specs: tuple[RunSpec, ...], n: str = "n_params_non_embedding") -> Candidates:
    """The runs that a ladder's rungs could be, with exact N and FLOPs."""
    return Candidates(
        names=tuple(spec.shape.width for spec in specs),
        n=np.array([getattr(spec.counts, n) for spec in specs], np.float64),
        flops_per_token=np.array([spec.counts.flops_per_token for spec in specs], np.float64),
        tokens=np.array([[h.tokens for h in spec.horizons] for spec in specs], np.float64),
        cooldown=np.array(
            [[(h.steps - h.branch_step) * spec.batch_tokens for h in spec.horizons] for spec in specs], np.float64
        ),
    )


def target_columns(config: Config, facts: DataFacts) -> dict[str, float]:
    """n, tokens and flops of the configuration's target."""
    assert config.target is not None
    width, tokens = config.target.width, config.target.tokens
    alone = config.grid.model_copy(update={"widths": (width,), "tokens": (tokens,), "flops": None})
    (spec, *_) = plan(config.model_copy(update={"target": None, "grid": alone}), facts).grid
    return {
        "n": float(getattr(spec.counts, config.forecast.n)),
        "tokens": float(spec.horizons[0].tokens),
        "flops": float(spec.horizons[0].tokens * spec.counts.flops_per_token),
    }
