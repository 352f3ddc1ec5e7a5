"""Which column names the run of each row: decided by what varies within it, not by its header alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.points.columns import column_named
from testbed.points.headers import header

NONE = "none"  # what the user gives where every row is a run
_NAMES = ("run", "run_id", "run_name")  # headers that say it
_MAYBE = ("job_name", "job_id", "run_uuid", "exp_name", "experiment", "experiment_name", "exp", "trial", "trial_id", "name", "id",
          "model_name", "model_id", "model")  # fmt: skip
_SETTINGS = ("seed", "init_seed", "data_seed", "peak_lr", "lr_max", "batch_tokens", "global_batch_size", "gbsz", "batch_size",
             "weight_decay", "warmup", "schedule", "dataset", "corpus", "optimizer", "width", "depth", "lr")  # fmt: skip


def named_runs(
    table: pd.DataFrame, sizes: NDArray[np.float64] | None, progress: NDArray[np.float64] | None, by_step: bool
) -> tuple[str | None, str]:
    """The column that names runs, or None where every row is a run; and a note on a column that seemed to, or "".

    `sizes` are N [rows] where the table has them, `progress` its steps or tokens; `by_step` says which.
    """
    names = {"".join(header(name).words): name for name in reversed(table.columns) if isinstance(name, str)}
    for spelling in (*_NAMES, *column_named("run").spellings):
        source = names.get(spelling.replace("_", ""))
        if source is not None and spelling not in _MAYBE:
            return source, ""
    note = ""
    for spelling in _MAYBE:
        source = names.get(spelling.replace("_", ""))
        if source is None or list(table.columns).count(source) > 1:
            continue
        column = table[source]
        if column.isna().any() or pd.api.types.is_float_dtype(column.dtype):
            continue
        why = _why_not(table, column, sizes, progress, by_step)
        if not why:
            return source, ""
        note = note or f"{source} {why}: every row is a run; --run {source} makes its rows one run"
    return None, note


def _why_not(
    table: pd.DataFrame,
    column: pd.Series[Any],
    sizes: NDArray[np.float64] | None,
    progress: NDArray[np.float64] | None,
    by_step: bool,
) -> str:
    """Why the rows of one value are no checkpoints of one run; "" if they are."""
    groups, names = pd.factorize(column)
    if len(names) == len(table):
        return ""
    if len(names) == 1:
        return f"is {names[0]} in every row"
    setting = _varying(table, groups, column.name)
    if setting:
        return f"names rows that differ in {setting}"
    if sizes is not None and _varies(groups, sizes):
        return "names rows of several sizes"
    if progress is None or pd.DataFrame({"group": groups, "at": progress}).duplicated().any():
        return "names several rows that nothing puts in order"
    if sizes is not None and not by_step and len(np.unique(sizes)) == len(names):
        return "names the size, not the run"
    return ""


def _varying(table: pd.DataFrame, groups: NDArray[Any], own: object) -> str:
    """The first setting of training that differs between rows of one group, or ""."""
    for name in table.columns:
        if name != own and isinstance(name, str) and "_".join(header(name).words) in _SETTINGS:
            rate = header(name).plain == "lr"
            if list(table.columns).count(name) == 1 and not (rate and _falls(table, name)):
                values = table[name]
                if _varies(groups, pd.factorize(values)[0].astype(np.float64)):
                    return name
    return ""


def _falls(table: pd.DataFrame, name: str) -> bool:
    """Whether a rate may be that of a step: the table has steps."""
    return any(
        header(str(other)).plain in ("step", "globalstep", "iteration", "iter")
        for other in table.columns
        if other != name
    )


def _varies(groups: NDArray[Any], values: NDArray[np.float64]) -> bool:
    within = pd.Series(values).groupby(groups)
    return bool((within.nunique(dropna=True) > 1).any())
