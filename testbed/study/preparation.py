"""Prepares a configuration for training: data, plan, design, micro-batches, packs and times; trains nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from testbed.analysis.forecast import check_design
from testbed.config import Config
from testbed.errors import DataError
from testbed.points import key_columns
from testbed.records import DataFacts, RunSpec
from testbed.study.grid_design import chosen_rungs
from testbed.training.data import TokenSource, open_source
from testbed.training.executors import Engines, Timetable, choose_engines, choose_packs, default_workers
from testbed.training.store import SweepFolder
from testbed.training.sweep import Plan, Rung, plan, rungs
from testbed.training.train import choose_device


def settle(config: Config, path: Path | None = None) -> tuple[TokenSource, Plan]:
    """Open the data, plan every run, and check that a forecast can be made from them.

    A design is chosen once: if the configuration's folder exists at `path`, the design found there is used.

    Raises:
        ConfigError: The plan or its forecast is impossible.
        DataError: The data cannot be read or does not hold enough.
    """
    if path is not None:
        config = SweepFolder.rules_at(path, config)
    source = open_source(config.data)
    made = plan(config, lambda data: open_source(data).facts, design_of(config, source.facts, path))
    if made.target:
        seeds = Counter(design for spec in made.grid for design in spec.designs)
        check_design(config.forecast, len(seeds), min(seeds.values()), varied_columns(made.target[0]))
    return source, made


def design_of(config: Config, facts: DataFacts, path: Path | None = None) -> tuple[Rung, ...] | None:
    """The rungs that grid.design chooses, or those in the configuration's folder at `path`; None for a whole grid."""
    if config.grid.design is not None and path is not None and SweepFolder.exists(path):
        folder = SweepFolder.open(path)
        if folder.config.hash() == config.under(folder.config.data.rules).hash():
            return rungs(folder.of_role("grid"))
    return chosen_rungs(config, facts)


def device_and_workers(config: Config, specs: Sequence[RunSpec]) -> tuple[torch.device, int]:
    """The configuration's device, and the number of worker processes that train these runs on it."""
    device = choose_device(config.execution.device)
    return device, config.execution.workers or default_workers(device, specs)


def engines(config: Config, made: Plan, measure: bool) -> Engines:
    """The plan with micro-batches chosen for the configuration's device: from memory estimates, or measured as well."""
    device, workers = device_and_workers(config, made.runs)
    return choose_engines(made, config.train, device, workers, _source_of(config) if measure else None)


def timetable(config: Config, made: Plan) -> Timetable:
    """The plan with packs chosen by measuring on the configuration's device, and the seconds that its runs will take."""
    device, workers = device_and_workers(config, made.runs)
    return choose_packs(made, config.train, _source_of(config), device, workers)


def require_same_data(folder: SweepFolder, specs: Sequence[RunSpec]) -> None:
    """Check the data of those of these runs that are not done, before any of them starts.

    Raises:
        DataError: They cannot be read, or are not those of the plan.
    """
    waiting = {spec.data.fingerprint: spec for spec in specs if folder.run(spec).done() is None}
    for planned, spec in waiting.items():
        found = open_source(folder.config.at(spec.cell).data).facts
        if found.fingerprint != planned:
            raise DataError(
                f"{spec.data.source}: the tokens are not those that {folder.path} was planned with (fingerprint "
                f"{found.fingerprint[:12]}, planned {planned[:12]}; {found.train_tokens or 0:,} tokens for training, planned "
                f"{spec.data.train_tokens or 0:,}): restore the data and repeat the command, or start another sweep (--out). No "
                "run was started"
            )


def _source_of(config: Config) -> Callable[[RunSpec], TokenSource]:
    return lambda spec: open_source(config.at(spec.cell).data)


def varied_columns(spec: RunSpec) -> dict[str, float]:
    """The run's values of the keys that the grid varies, by their columns in the points table; numbers only.

    A run that reads its text more than once has its distinct tokens among them, which the law of repeated text needs.
    """
    names, available = key_columns(spec.cell), spec.data.train_tokens
    found = {names[key]: float(value) for key, value in spec.cell.items() if not isinstance(value, str)}
    if available is not None and spec.horizons[-1].tokens > available:
        found.setdefault("unique_tokens", float(available))
    return found
