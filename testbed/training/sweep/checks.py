"""What a plan is refused for, and what is poor about its design."""

from __future__ import annotations

import math

from testbed.config import Train
from testbed.errors import ConfigError
from testbed.records import RunSpec
from testbed.records.repetition import repetition

LEAST_STEPS = 1000  # below, short horizons are step-starved and bend the law
_LEAST_SPAN = 10.0
_FARTHEST_DECADES = 1.5


def check_target(grid: tuple[RunSpec, ...], target: RunSpec) -> None:
    """ConfigError where the target does not lie beyond the grid."""
    largest = max(spec.counts.flops_per_token * spec.horizons[-1].tokens for spec in grid)
    flops = target.counts.flops_per_token * target.horizons[0].tokens
    width = max(spec.shape.width for spec in grid)
    if flops <= largest or target.shape.width < width:
        raise ConfigError(
            f"target: found width {target.shape.width} and {target.horizons[0].tokens} tokens ({flops:.2e} FLOPs), inside the "
            f"grid (widths to {width}, runs to {largest:.2e} FLOPs); a target lies beyond it: raise target.width or target.tokens"
        )


def check_data(spec: RunSpec, repeat: bool) -> None:
    """ConfigError where a horizon is longer than the data and may not repeat it."""
    found, longest = spec.data.train_tokens, spec.horizons[-1].tokens
    if found is not None and longest > found and not repeat:
        raise ConfigError(
            f"{spec.role}: a horizon of {longest} tokens is beyond the data: {spec.data.source} holds {found} training tokens; "
            "lower it, give more text, or set data.repeat = true"
        )


def check_pack(spec: RunSpec, train: Train) -> None:
    """ConfigError where packs are asked for that cannot be."""
    from testbed.training.models import can_pack  # which brings torch: what only reads a plan does without

    if isinstance(train.pack, int):
        side_by_side = spec.engine.model_copy(update={"pack": train.pack})
        if not can_pack(spec.model_copy(update={"engine": side_by_side})):
            raise ConfigError(
                f"train.pack: found {train.pack}, but runs of width {spec.shape.width} cannot be trained so side by side: that "
                'takes the family "gpt", one process, no micro_rows, no recompute = true, and logits of the whole pack under '
                '1 GB; use "auto" or "none"'
            )


def check_families(specs: tuple[RunSpec, ...]) -> tuple[str, ...]:
    """What is unusual about the networks of each family in the plan, in sentences; its smallest network is looked at.

    Raises:
        ConfigError: A family's networks are not causal, or not of the rung's depth and width.
    """
    smallest: dict[str, RunSpec] = {}
    for spec in sorted(specs, key=lambda spec: spec.counts.n_params_total):
        if spec.shape.family != "gpt":
            smallest.setdefault(f"{spec.shape.family} {sorted(spec.shape.options.items())}", spec)
    if not smallest:
        return ()
    from testbed.training.models.family_check import family_findings  # which brings torch

    return tuple(sentence for spec in smallest.values() for sentence in family_findings(spec.shape.model_dump_json()))


def check_processes(spec: RunSpec) -> None:
    """ConfigError where processes could not take as many windows as each other, of a batch and of the validation."""
    seq_len = spec.shape.seq_len
    validated = spec.data.val_tokens // (seq_len - spec.data.first_scored)
    for name, windows in (("train.batch_tokens", spec.batch_tokens // seq_len), ("data.val_windows", validated)):
        if windows % spec.engine.processes:
            raise ConfigError(
                f"train.processes: found {spec.engine.processes} for the {spec.role}, but {name} is {windows} windows of "
                f"{seq_len} tokens, no multiple of it; change one of them"
            )


def passes(spec: RunSpec) -> list[float]:
    """How often each horizon of a run reads its text; 1 where the text has no end."""
    found = spec.data.train_tokens
    return [1.0 if found is None else horizon.tokens / found for horizon in spec.horizons]


def design_warnings(
    grid: tuple[RunSpec, ...], target: tuple[RunSpec, ...], laws: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Where the design is poor: step-starved, narrow, with its target too far away, or reading its text again and again.

    `laws` are those of the forecast.
    """
    warnings = []
    shortest = min(h.steps for spec in grid for h in spec.horizons)
    if shortest < LEAST_STEPS:
        warnings.append(
            f"the smallest D is only {shortest} optimiser steps; below {LEAST_STEPS} the losses are step-starved and bend "
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
    repeated = repetition([n for spec in grid for n in passes(spec)], passes(target[0])[-1] if target else None)
    return (*warnings, *([repeated.sentence(laws)] if repeated else []))
