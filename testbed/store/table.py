"""The points table of a sweep, made from its runs' evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from testbed.points import COLUMNS
from testbed.records import Eval, RunSpec
from testbed.store.sweep import SweepFolder


def sweep_points(folder: SweepFolder) -> pd.DataFrame:
    """Every evaluation of every run that is done, in the plan's order; the columns are points.COLUMNS.

    Made by columns, what is of a run once a run: a sweep may have half a million losses.
    """
    runs: list[dict[str, Any]] = []
    counts: list[int] = []
    columns: dict[str, list[Any]] = {}
    for spec in folder.specs:
        run = folder.run(spec)
        if run.state() == "done":
            evals = run.evals()
            runs.append(_of_run(spec))
            counts.append(len(evals))
            for name, values in _of_evals(spec, evals):
                columns.setdefault(name, []).extend(values)
    each = np.repeat(np.arange(len(runs)), counts)
    table = pd.DataFrame(runs).iloc[each].reset_index(drop=True)
    for name in list(columns):
        table[name] = columns.pop(name)
    return table.reindex(columns=list(COLUMNS))


def _of_run(spec: RunSpec) -> dict[str, Any]:
    return {
        "run": spec.run_id,
        "role": spec.role,
        "family": spec.shape.family,
        "width": spec.shape.width,
        "depth": spec.shape.depth,
        "n_params_non_embedding": spec.counts.n_params_non_embedding,
        "n_params_total": spec.counts.n_params_total,
        "batch_tokens": spec.batch_tokens,
        "seq_len": spec.shape.seq_len,
        "init_seed": spec.init_seed,
        "data_seed": spec.data_seed,
    }


def _of_evals(spec: RunSpec, evals: list[Eval]) -> Iterator[tuple[str, list[Any]]]:
    n, available = spec.counts.n_params_non_embedding, spec.data.train_tokens
    branches = {horizon.tokens: horizon.branch_step for horizon in spec.horizons}
    for name in ("tokens", "flops", "loss", "bpb", "phase", "horizon", "step", "lr"):
        yield name, [getattr(evaluation, name) for evaluation in evals]
    yield "unique_tokens", [e.tokens if available is None else min(e.tokens, available) for e in evals]
    yield "tokens_per_param", [e.tokens / n for e in evals]
    yield "flops_6nd", [6 * n * e.tokens for e in evals]
    yield "branch_step", [branches.get(e.horizon) if e.horizon is not None else None for e in evals]
