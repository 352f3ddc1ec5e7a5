"""Runs the coordinate check of a configuration: a few widths and seeds, ten steps each; measured once and kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from testbed.config import Config
from testbed.files import write_text
from testbed.records import Engine, RunSpec
from testbed.training.data import TokenSource
from testbed.training.models import find_family
from testbed.training.store import SweepFolder
from testbed.training.sweep import learning_rates
from testbed.training.train import choose_device
from testbed.training.train.activations import measure_coordinates

_STEPS = 10
_SEEDS = 3
_COUNT = 4  # widths
_LEAST_SPAN = 4
_TOKENS = 4096  # at most in a batch: how activations change with width does not depend on it


def coordinates(folder: SweepFolder, spec: RunSpec, source: TokenSource) -> pd.DataFrame:
    """The table of `measure_coordinates` for the configuration's widths, from the folder's coordinates.csv if it is there.

    `spec` is a run of the grid. Every width has the depth of the smallest rung, so that width alone changes,
    and learns at the rule's peak rates from the first step.
    """
    path = folder.path / "coordinates.csv"
    if path.exists():
        return pd.read_csv(path)
    device = choose_device(folder.config.execution.device)
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        specs = _specs(folder.config, spec)
        table = pd.concat([measure_coordinates(one, source, device, _STEPS) for one in specs], ignore_index=True)
    finally:
        torch.set_num_threads(threads)
    write_text(path, table.to_csv(index=False))
    return table


def widths(config: Config) -> tuple[int, ...]:
    """From the smallest width of the study to its largest, and at least to 4 times the smallest; whole heads."""
    known = [*config.grid.widths, *([config.target.width] if config.target else [])]
    head, low = config.model.head_size, min(known)
    spread = np.geomspace(low, max(max(known), _LEAST_SPAN * low), _COUNT)
    return tuple(sorted({max(head, head * round(width / head)) for width in spread}))


def _specs(config: Config, spec: RunSpec) -> Iterator[RunSpec]:
    family = find_family(config.model.family)
    rule = config.model.model_copy(update={"depth": spec.shape.depth, "width_per_layer": None})
    windows = max(1, min(spec.batch_tokens, _TOKENS) // spec.shape.seq_len)
    for width in widths(config):
        shape = family.shape(width, rule, spec.shape.vocab_size, spec.shape.seq_len)
        lr, lr_hidden = learning_rates(config.train, width)
        for seed in range(_SEEDS):
            changes = {
                "shape": shape,
                "counts": family.counts(shape),
                "init_seed": seed,
                "data_seed": seed,
                "batch_tokens": windows * spec.shape.seq_len,
                "lr": lr,
                "lr_hidden": lr_hidden,
                "warmup_steps": 0,
                "engine": Engine(),
            }
            yield spec.model_copy(update=changes)
