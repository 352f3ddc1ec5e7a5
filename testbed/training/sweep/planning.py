"""From a configuration to the complete specification of every run; pure arithmetic, nothing is started.

Everything about a run is decided here: shape, seeds, horizons, steps, learning rates, evaluations. So a
plan can print its cost, and a run can be resumed or moved to another machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from testbed.config import Config, Data, Train
from testbed.config.vary import Cell
from testbed.errors import ConfigError
from testbed.points import key_columns
from testbed.records import Component, Counts, DataFacts, Engine, Horizon, Role, RunSpec, Shape
from testbed.registry import Registry, settings_of
from testbed.training.recipe import PARTS, SCHEDULES, part_of, schedule_of
from testbed.training.sweep.checks import (
    LEAST_STEPS,
    check_data,
    check_families,
    check_pack,
    check_processes,
    check_target,
    design_warnings,
)


@dataclass(frozen=True)
class Rung:
    """The part of a grid at one width: horizons in tokens, and the number of the grid's seeds."""

    width: int
    tokens: tuple[int, ...]
    seeds: int


@dataclass(frozen=True)
class Plan:
    """The runs of a study, and the weaknesses of its design as sentences."""

    grid: tuple[RunSpec, ...]
    target: tuple[RunSpec, ...]
    warnings: tuple[str, ...]

    def trained_by(self, engines: Sequence[Engine]) -> Plan:
        """The plan with these engines, one for each run in the order of `runs`."""
        runs = [spec.model_copy(update={"engine": e}) for spec, e in zip(self.runs, engines, strict=True)]
        return replace(self, grid=tuple(runs[: len(self.grid)]), target=tuple(runs[len(self.grid) :]))

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """Grid and target runs."""
        return self.grid + self.target

    def find(self, run_id: str) -> RunSpec:
        """The run of this id."""
        return next(spec for spec in self.runs if spec.run_id == run_id)


def rungs(grid: Sequence[RunSpec]) -> tuple[Rung, ...]:
    """The rungs of a planned grid, in the plan's order."""
    taken: dict[int, list[RunSpec]] = {}
    for spec in grid:
        if spec.retry_of is None:
            taken.setdefault(spec.shape.width, []).append(spec)
    return tuple(
        Rung(
            width, tuple(sorted({d.tokens for run in runs for d in run.designs})), len({run.init_seed for run in runs})
        )
        for width, runs in taken.items()
    )


def plan(config: Config, facts: DataFacts | Callable[[Data], DataFacts], chosen: Sequence[Rung] | None = None) -> Plan:
    """Every run of `config`; of its grid only the rungs in `chosen` where that is given.

    `facts` describes the data, or is a function that describes the data of a cell where the grid varies them.

    Raises:
        ConfigError: configuration and data do not fit together.
    """
    facts_of = facts if callable(facts) else lambda _: facts
    grid = tuple(spec for cell in config.cells() for spec in _grid(config.at(cell), cell, facts_of, chosen))
    if len({spec.run_id for spec in grid}) < len(grid):
        raise ConfigError(
            "grid.vary: some of its keys make no difference to any run; vary keys of data, model and train"
        )
    target = _target(config, facts_of, grid[0].batch_tokens)
    if target:
        check_target(grid, target[0])
    for spec in grid + target:
        check_data(spec, config.at(spec.cell).data.repeat)
        check_pack(spec, config.train)
        check_processes(spec)
    return Plan(grid, target, (*design_warnings(grid, target, config.forecast.laws), *check_families(grid + target)))


def _grid(
    config: Config, cell: Cell, facts_of: Callable[[Data], DataFacts], chosen: Sequence[Rung] | None
) -> Iterator[RunSpec]:
    """The runs of one cell: widths x seeds, each with all horizons."""
    facts = facts_of(config.data)
    rungs = {width: _rung(config, width, facts) for width in config.grid.widths}
    horizons = {width: _horizon_tokens(config, rungs[width][1]) for width in config.grid.widths}
    batch = _batch_tokens(config.train, facts.seq_len, min(map(min, horizons.values())))
    seeds = config.grid.init_seeds
    taken = [Rung(width, horizons[width], len(seeds)) for width in config.grid.widths] if chosen is None else chosen
    shared = _one_trunk(config.train)
    for rung in taken:
        for init, data in _seeds(rung.width, seeds[: rung.seeds], config.grid.data_seeds):
            for tokens in [rung.tokens] if shared else [(count,) for count in rung.tokens]:
                yield _spec("grid", config, facts, rungs[rung.width], tokens, batch, init, data, cell)


def _target(config: Config, facts_of: Callable[[Data], DataFacts], batch: int) -> tuple[RunSpec, ...]:
    if config.target is None:
        return ()
    width, data_seeds = config.target.width, config.target.data_seeds or config.grid.data_seeds
    (cell,) = config.cells(config.target.at)
    own = config.at(cell)
    facts = facts_of(own.data)
    batch = batch if own.train.batch_tokens == "auto" else own.train.batch_tokens
    return tuple(
        _spec("target", own, facts, _rung(own, width, facts), (config.target.tokens,), batch, init, data, cell)
        for init, data in _seeds(width, config.target.init_seeds, data_seeds)
    )


def _rung(config: Config, width: int, facts: DataFacts) -> tuple[Shape, Counts]:
    from testbed.training.models import find_family  # which brings torch: what only reads a plan does without

    family = find_family(config.model.family)
    shape = family.shape(width, config.model, facts.vocab_size, facts.seq_len)
    return shape, family.counts(shape)


def _components(train: Train) -> tuple[Component, tuple[Component, ...]]:
    """The schedule and the parts of a recipe, with all their settings."""

    def of(registry: Registry, name: str) -> Component:
        own = settings_of(train, name, registry.find(name).Settings, "train")
        return Component(name=name, settings=own.model_dump(mode="json"))

    return of(SCHEDULES, train.schedule), tuple(of(PARTS, name) for name in train.parts)


def _one_trunk(train: Train) -> bool:
    """Whether all horizons of a model branch off one trunk; otherwise each horizon is a run of its own."""
    schedule, parts = _components(train)
    return schedule_of(schedule).branches and all(part_of(part).branches for part in parts)


def learning_rates(train: Train, width: int) -> tuple[float, float]:
    """Peak rates (embeddings, head and norms; hidden matrices): the second shrinks as base_width / width.

    The rule of muP for Adam (arXiv:2203.03466, table 8), which keeps the best rate the same on every
    rung; the head is not rescaled.
    """
    return train.lr, train.lr * train.base_width / width


def _seeds(
    width: int, init_seeds: tuple[int, ...], data_seeds: tuple[int, ...] | Literal["own"]
) -> list[tuple[int, int]]:
    """Init and data seed of each run of one width.

    The order of the data shifts the losses at one D equally on every rung. Runs that share an order share this
    error; seeds do not show it, and the law carries it to the target. With an order for each run it averages
    out, and resampling the runs measures it.
    """
    if data_seeds == "own":
        return [(init, init * 65536 + width) for init in init_seeds]
    return [(init, data) for data, init in product(data_seeds, init_seeds)]


def _horizon_tokens(config: Config, counts: Counts) -> tuple[int, ...]:
    if config.grid.tokens is not None:
        return tuple(sorted(config.grid.tokens))
    assert config.grid.flops is not None
    return tuple(sorted(flops // counts.flops_per_token for flops in config.grid.flops))


def _batch_tokens(train: Train, seq_len: int, fewest_tokens: int) -> int:
    """The configured batch, or the power of two nearest to fewest_tokens / 1000, at least 256 and one window."""
    if train.batch_tokens != "auto":
        return train.batch_tokens
    batch: int = max(256, 1 << round(math.log2(max(fewest_tokens / LEAST_STEPS, 1))))
    return seq_len * max(1, round(batch / seq_len))


def _spec(
    role: Role,
    config: Config,
    facts: DataFacts,
    rung: tuple[Shape, Counts],
    tokens: tuple[int, ...],
    batch: int,
    init_seed: int,
    data_seed: int,
    cell: Cell,
) -> RunSpec:
    train, (shape, counts) = config.train, rung
    schedule, parts = _components(train)
    lr, lr_hidden = learning_rates(train, shape.width)
    horizons = tuple(_horizon(count, batch, train, shape.width) for count in tokens)
    if not _one_trunk(train):
        horizons = tuple(horizon.model_copy(update={"branch_step": 0}) for horizon in horizons)
    named = key_columns(cell)
    further = counts.more | {named[key]: value for key, value in cell.items()}
    for part in parts:
        further |= part_of(part).columns(counts, horizons[-1])
    if len({h.steps for h in horizons}) < len(horizons):
        raise ConfigError(
            f"grid: width {shape.width} has two horizons of {horizons[0].steps} steps of {batch} tokens; "
            "set them further apart or lower train.batch_tokens"
        )
    return RunSpec(
        role=role,
        shape=shape,
        counts=counts,
        data=facts,
        init_seed=init_seed,
        data_seed=data_seed,
        horizons=horizons,
        batch_tokens=batch,
        lr=lr,
        lr_hidden=lr_hidden,
        warmup_steps=train.warmup_steps,
        weight_decay=train.weight_decay,
        betas=train.betas,
        clip=train.clip or None,
        precision=train.precision,
        deterministic=train.deterministic,
        trunk_evals=_trunk_evals(train, horizons) if horizons[-1].branch_step else (),
        branch_evals=train.branch_evals,
        engine=_engine(config, role),
        schedule=schedule,
        parts=parts,
        cell=dict(cell),
        columns=further,
    )


def _engine(config: Config, role: Role) -> Engine:
    """The engine as far as the configuration sets it; the rest is chosen for the device."""
    train, rows = config.train, config.train.micro_rows
    count = (config.target.processes if role == "target" and config.target else None) or train.processes
    given = {"recompute": train.recompute is True, "processes": count, "sharded": train.sharded is True and count > 1}
    return Engine(micro_rows=None if rows == "auto" else rows, compile=train.compile is True, **given)


def _horizon(tokens: int, batch: int, train: Train, width: int) -> Horizon:
    steps = round(tokens / batch)
    decay = max(1, round(train.cooldown * steps))
    if steps - decay <= train.warmup_steps:
        raise ConfigError(
            f"grid: a horizon of {tokens} tokens is {steps} steps of {batch} tokens at width {width}; after "
            f"train.warmup_steps = {train.warmup_steps} and the cooldown no step is left at the full learning rate; "
            "raise the horizon, or lower train.batch_tokens or train.warmup_steps"
        )
    return Horizon(tokens=steps * batch, steps=steps, branch_step=steps - decay)


def _trunk_evals(train: Train, horizons: tuple[Horizon, ...]) -> tuple[int, ...]:
    """Branch points, and `trunk_evals` steps evenly spaced in the logarithm before the last of them."""
    last = horizons[-1].branch_step
    first = max(1, min(train.warmup_steps, last))
    between = {round(first * (last / first) ** (i / train.trunk_evals)) for i in range(train.trunk_evals)}
    return tuple(sorted(between | {h.branch_step for h in horizons}))
