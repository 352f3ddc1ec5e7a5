"""The points table of a sweep, made from its runs' evaluations."""

from __future__ import annotations

from typing import Any

import pandas as pd

from testbed.points import COLUMNS
from testbed.records import Eval, RunSpec
from testbed.store.sweep import SweepFolder


def sweep_points(folder: SweepFolder) -> pd.DataFrame:
    """Every evaluation of every run that is done, in the plan's order; the columns are points.COLUMNS."""
    rows = []
    for spec in folder.specs:
        run = folder.run(spec)
        if run.state() == "done":
            rows += [_row(spec, evaluation) for evaluation in run.evals()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(spec: RunSpec, evaluation: Eval) -> dict[str, Any]:
    n, tokens = spec.counts.n_params_non_embedding, evaluation.tokens
    available = spec.data.train_tokens
    return {
        "run": spec.run_id,
        "role": spec.role,
        "family": spec.shape.family,
        "width": spec.shape.width,
        "depth": spec.shape.depth,
        "n_params_non_embedding": n,
        "n_params_total": spec.counts.n_params_total,
        "tokens": tokens,
        "unique_tokens": tokens if available is None else min(tokens, available),
        "tokens_per_param": tokens / n,
        "flops": evaluation.flops,
        "flops_6nd": 6 * n * tokens,
        "loss": evaluation.loss,
        "bpb": evaluation.bpb,
        "phase": evaluation.phase,
        "horizon": evaluation.horizon,
        "branch_step": next((h.branch_step for h in spec.horizons if h.tokens == evaluation.horizon), None),
        "step": evaluation.step,
        "batch_tokens": spec.batch_tokens,
        "seq_len": spec.shape.seq_len,
        "lr": evaluation.lr,
        "init_seed": spec.init_seed,
        "data_seed": spec.data_seed,
    }
