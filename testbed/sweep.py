"""From a configuration to every run it asks for, settled in full; pure arithmetic, nothing is started.

What a run needs is decided here and nowhere later: shape, seeds, horizons, steps, learning rates,
evaluations. So a plan can print its cost, and a run can be resumed or moved to another machine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from testbed.config import Config, Train
from testbed.errors import ConfigError
from testbed.files import digest
from testbed.models import can_pack, find_family
from testbed.records import Counts, DataFacts, Engine, Horizon, Role, RunSpec, Shape

_LEAST_STEPS = 1000  # below, short horizons are step-starved and bend the law
_LEAST_SPAN = 10.0
_FARTHEST_DECADES = 1.5
_STEP_FLOPS = 1e8  # what a step's overhead is worth

Pack = tuple[RunSpec, ...]  # runs that are trained side by side; they differ in seeds and learning rates only


@dataclass(frozen=True)
class Plan:
    """The runs of a study, and what is poor about its design, in sentences."""

    grid: tuple[RunSpec, ...]
    target: tuple[RunSpec, ...]
    warnings: tuple[str, ...]

    def trained_by(self, engines: Sequence[Engine]) -> Plan:
        """The same runs, each by its engine."""
        runs = [spec.model_copy(update={"engine": e}) for spec, e in zip(self.runs, engines, strict=True)]
        return replace(self, grid=tuple(runs[: len(self.grid)]), target=tuple(runs[len(self.grid) :]))

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """Grid and target runs."""
        return self.grid + self.target

    def find(self, run_id: str) -> RunSpec:
        """The run of this id."""
        return next(spec for spec in self.runs if spec.run_id == run_id)


def plan(config: Config, facts: DataFacts) -> Plan:
    """Every run of `config` on data with these facts; ConfigError where the two do not fit."""
    family = find_family(config.model.family)
    widths = {*config.grid.widths} | ({config.target.width} if config.target else set())
    rungs = {}
    for width in sorted(widths):
        shape = family.shape(width, config.model, facts.vocab_size, facts.seq_len)
        rungs[width] = (shape, family.counts(shape))
    horizons = {width: _horizon_tokens(config, rungs[width][1]) for width in config.grid.widths}
    batch = _batch_tokens(config.train, facts.seq_len, min(map(min, horizons.values())))
    grid = tuple(
        _spec("grid", config, facts, rungs[width], horizons[width], batch, init, data)
        for width in config.grid.widths
        for init, data in _seeds(width, config.grid.init_seeds, config.grid.data_seeds)
    )
    target: tuple[RunSpec, ...] = ()
    if config.target is not None:
        width, data_seeds = config.target.width, config.target.data_seeds or config.grid.data_seeds
        target = tuple(
            _spec("target", config, facts, rungs[width], (config.target.tokens,), batch, init, data)
            for init, data in _seeds(width, config.target.init_seeds, data_seeds)
        )
        _check_target(grid, target[0])
    for spec in grid + target:
        _check_data(spec, config.data.repeat)
        _check_pack(spec, config.train)
        _check_processes(spec)
    return Plan(grid, target, design_warnings(grid, target))


def same_kind(specs: Iterable[RunSpec]) -> tuple[tuple[RunSpec, ...], ...]:
    """The runs that could be trained side by side: those that differ in seeds and learning rates only."""
    alike: dict[str, list[RunSpec]] = {}
    for spec in specs:
        alike.setdefault(_kind(spec), []).append(spec)
    return tuple(map(tuple, alike.values()))


def packs(specs: Iterable[RunSpec]) -> tuple[Pack, ...]:
    """The packs in which the specs are trained, each of as many runs as its specs say."""
    return tuple(
        group[start : start + (group[0].engine.pack or 1)]
        for group in same_kind(specs)
        for start in range(0, len(group), group[0].engine.pack or 1)
    )


def packed(specs: Iterable[RunSpec], largest: int | None) -> tuple[RunSpec, ...]:
    """The same runs in packs of at most `largest`, as even as can be; None is each alone by its family's own module."""
    alone = [spec.model_copy(update={"engine": spec.engine.model_copy(update={"pack": None})}) for spec in specs]
    if largest is None:
        return tuple(alone)
    sizes = {kind: _pack_sizes(count, largest) for kind, count in Counter(map(_kind, alone)).items()}
    return tuple(spec.model_copy(update={"engine": Engine(pack=next(sizes[_kind(spec)]))}) for spec in alone)


def _pack_sizes(count: int, largest: int) -> Iterator[int]:
    """The size of the pack of each of `count` runs of a kind."""
    in_packs = -(-count // largest)
    for index in range(in_packs):
        size = count // in_packs + (index < count % in_packs)
        yield from [size] * size


def cost(pack: Pack) -> float:
    """About how long a pack takes, in FLOPs: of each step a fixed part, as much as 100 MFLOP, and those of all its runs."""
    return sum(spec.flops for spec in pack) + _STEP_FLOPS * pack[0].steps


def _kind(spec: RunSpec) -> str:
    """What runs of one pack have in common: everything but seeds and learning rates."""
    return digest(spec.model_dump(mode="json", exclude={"init_seed", "data_seed", "lr", "lr_hidden"}))


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

    What the order of the data does to the losses at one D is the same on every rung, so runs that
    share an order share an error that no seed shows and that the law carries on to the target; with
    orders of their own it averages out, and resampling the runs sees it.
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
    """Given, or the power of two nearest to fewest_tokens / 1000, at least 256 and at least one window."""
    if train.batch_tokens != "auto":
        return train.batch_tokens
    batch: int = max(256, 1 << round(math.log2(max(fewest_tokens / _LEAST_STEPS, 1))))
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
) -> RunSpec:
    train, (shape, counts) = config.train, rung
    lr, lr_hidden = learning_rates(train, shape.width)
    horizons = tuple(_horizon(count, batch, train, shape.width) for count in tokens)
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
        clip=train.clip,
        precision=train.precision,
        deterministic=train.deterministic,
        trunk_evals=_trunk_evals(train, horizons),
        branch_evals=train.branch_evals,
        engine=_engine(config, role),
    )


def _engine(config: Config, role: Role) -> Engine:
    """What the configuration says of it; the rest is chosen for the device."""
    train, rows = config.train, config.train.micro_rows
    count = (config.target.processes if role == "target" and config.target else None) or train.processes
    told = {"recompute": train.recompute is True, "processes": count, "sharded": train.sharded is True and count > 1}
    return Engine(micro_rows=None if rows == "auto" else rows, compile=train.compile is True, **told)


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


def _check_target(grid: tuple[RunSpec, ...], target: RunSpec) -> None:
    largest = max(spec.counts.flops_per_token * spec.horizons[-1].tokens for spec in grid)
    flops = target.counts.flops_per_token * target.horizons[0].tokens
    width = max(spec.shape.width for spec in grid)
    if flops <= largest or target.shape.width < width:
        raise ConfigError(
            f"target: found width {target.shape.width} and {target.horizons[0].tokens} tokens ({flops:.2e} FLOPs), inside the "
            f"grid (widths to {width}, runs to {largest:.2e} FLOPs); a target lies beyond it: raise target.width or target.tokens"
        )


def _check_data(spec: RunSpec, repeat: bool) -> None:
    found, longest = spec.data.train_tokens, spec.horizons[-1].tokens
    if found is not None and longest > found and not repeat:
        raise ConfigError(
            f"{spec.role}: a horizon of {longest} tokens is beyond the data: {spec.data.source} holds {found} training tokens; "
            "lower it, give more text, or set data.repeat = true"
        )


def _check_pack(spec: RunSpec, train: Train) -> None:
    if isinstance(train.pack, int):
        side_by_side = spec.engine.model_copy(update={"pack": train.pack})
        if not can_pack(spec.model_copy(update={"engine": side_by_side})):
            raise ConfigError(
                f"train.pack: found {train.pack}, but runs of width {spec.shape.width} cannot be trained so side by side: that "
                'takes the family "gpt", one process, no micro_rows, no recompute = true, and logits of the whole pack under '
                '1 GB; use "auto" or "none"'
            )


def _check_processes(spec: RunSpec) -> None:
    """Every process takes as many windows as the others, of a batch and of the validation."""
    seq_len = spec.shape.seq_len
    validated = spec.data.val_tokens // (seq_len - spec.data.first_scored)
    for name, windows in (("train.batch_tokens", spec.batch_tokens // seq_len), ("data.val_windows", validated)):
        if windows % spec.engine.processes:
            raise ConfigError(
                f"train.processes: found {spec.engine.processes} for the {spec.role}, but {name} is {windows} windows of "
                f"{seq_len} tokens, no multiple of it; change one of them"
            )


def design_warnings(grid: tuple[RunSpec, ...], target: tuple[RunSpec, ...]) -> tuple[str, ...]:
    """Where the design is poor: step-starved, narrow, or with its target too far away."""
    warnings = []
    shortest = min(h.steps for spec in grid for h in spec.horizons)
    if shortest < _LEAST_STEPS:
        warnings.append(
            f"the smallest D is only {shortest} optimiser steps; below {_LEAST_STEPS} the losses are step-starved and bend "
            "the law: raise the smallest horizon or lower train.batch_tokens"
        )
    sizes = [spec.counts.n_params_non_embedding for spec in grid]
    tokens = [h.tokens for spec in grid for h in spec.horizons]
    for name, values in (("N", sizes), ("D", tokens)):
        span = max(values) / min(values)
        if span < 0.99 * _LEAST_SPAN:  # horizons are rounded to whole steps
            warnings.append(
                f"{name} spans only a factor {span:.3g}; below {_LEAST_SPAN:.0f} its exponent is poorly known: widen the grid"
            )
    if target:
        largest = max(spec.counts.flops_per_token * spec.horizons[-1].tokens for spec in grid)
        decades = math.log10(target[0].counts.flops_per_token * target[0].horizons[0].tokens / largest)
        if decades > _FARTHEST_DECADES:
            warnings.append(
                f"the target lies {decades:.2f} decades of compute beyond the grid; beyond {_FARTHEST_DECADES} forecasts "
                "of this kind have failed: bring it nearer or enlarge the grid"
            )
    return tuple(warnings)
