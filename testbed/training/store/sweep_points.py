"""Makes the points table of a sweep from the evaluations of its runs."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from testbed.points import POINTS_COLUMNS
from testbed.records import RunSpec
from testbed.training.store.sweep_folder import SweepFolder

# Columns of the table that an evaluation logs -> its field
_LOGGED = {name: name for name in ("tokens", "flops", "loss", "bpb", "phase", "horizon", "step")} | {"lr_at_step": "lr"}


def sweep_points(folder: SweepFolder) -> pd.DataFrame:
    """Every evaluation of every run that is done, in the plan's order; columns are POINTS_COLUMNS, then its components' own.

    Built column by column, since a sweep may have half a million losses.
    """
    specs: list[RunSpec] = []
    counts: list[int] = []
    logged: dict[str, Any] = {name: array("d") if name in ("loss", "lr_at_step") else [] for name in _LOGGED}
    branch_steps: list[int | None] = []
    for run in map(folder.run, folder.specs):
        if run.state() == "done":
            evals = run.evals()
            specs.append(run.spec)
            counts.append(len(evals))
            for name, values in logged.items():
                values.extend([getattr(evaluation, _LOGGED[name]) for evaluation in evals])
            branches = {horizon.tokens: horizon.branch_step for horizon in run.spec.horizons}
            branch_steps += [None if e.horizon is None else branches.get(e.horizon) for e in evals]
    each = np.repeat(np.arange(len(specs)), counts)
    names = dict.fromkeys(name for spec in specs for name in spec.columns)
    table = pd.DataFrame([_of_run(spec) for spec in specs]).iloc[each].reset_index(drop=True)
    for name in _LOGGED:
        table[name] = logged.pop(name)  # popped, so that no column is in memory twice
    table["branch_step"] = branch_steps
    for name, values in _derived(table, [specs[k].data.train_tokens for k in each]):
        table[name] = values
    return table.reindex(columns=list(dict.fromkeys((*POINTS_COLUMNS, *names))))


def _of_run(spec: RunSpec) -> dict[str, Any]:
    return spec.columns | {
        "run": spec.run_id,
        "role": spec.role,
        "family": spec.shape.family,
        "width": spec.shape.width,
        "depth": spec.shape.depth,
        "n_params_non_embedding": spec.counts.n_params_non_embedding,
        "n_params_total": spec.counts.n_params_total,
        "batch_tokens": spec.batch_tokens,
        "seq_len": spec.shape.seq_len,
        "schedule": spec.schedule.name,
        "peak_lr": spec.lr,
        "init_seed": spec.init_seed,
        "data_seed": spec.data_seed,
        "retry_of": spec.retry_of,
    }


def _derived(table: pd.DataFrame, available: list[int | None]) -> Iterator[tuple[str, list[Any]]]:
    """Computed with Python's integers, since 6 N D of a large model exceeds 64 bits."""
    if table.empty:
        return
    n, tokens = table["n_params_non_embedding"].tolist(), table["tokens"].tolist()
    yield "unique_tokens", [t if most is None else min(t, most) for t, most in zip(tokens, available, strict=True)]
    yield "tokens_per_param", [t / m for t, m in zip(tokens, n, strict=True)]
    yield "flops_6nd", [6 * m * t for t, m in zip(tokens, n, strict=True)]
