"""The points table: one row a loss. From here on a table of anyone's runs is as good as our own.

Columns that a fit needs: a parameter count, tokens, loss. The others are used where they are there.
Reads and writes CSV, parquet and JSON lines, chosen by the file's suffix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from testbed.errors import TableError
from testbed.files import replacing

COLUMNS = (
    "run",
    "role",
    "family",
    "width",
    "depth",
    "n_params_non_embedding",
    "n_params_total",
    "tokens",
    "unique_tokens",
    "tokens_per_param",
    "flops",
    "flops_6nd",
    "loss",
    "bpb",
    "phase",
    "horizon",
    "branch_step",
    "step",
    "batch_tokens",
    "seq_len",
    "lr",
    "init_seed",
    "data_seed",
)

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "n_params_non_embedding": (
        "n_params_non_embedding",
        "n_params_no_embed",
        "non_embedding_params",
        "n_non_embedding",
    ),
    "n_params_total": ("n_params_total", "n_params", "params", "N", "parameters", "model_size", "num_params"),
    "tokens": ("tokens", "n_tokens", "D", "train_tokens", "training_tokens", "dataset_size"),
    "loss": ("loss", "val_loss", "eval_loss", "validation_loss", "final_loss", "L", "valid_loss", "test_loss"),
    "flops": ("flops", "C", "FLOPs", "compute", "training_flops"),
    "run": ("run", "run_id", "run_name", "model"),
    "phase": ("phase",),
}


@dataclass(frozen=True)
class Columns:
    """Which column of a foreign table plays which part; None picks the usual name."""

    n: str | None = None
    d: str | None = None
    loss: str | None = None
    run: str | None = None


def read_table(path: Path) -> pd.DataFrame:
    """A table from CSV, parquet or JSON lines; TableError where it cannot be read."""
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv,
        ".tsv": lambda p: pd.read_csv(p, sep="\t"),
        ".parquet": pd.read_parquet,
        ".jsonl": lambda p: pd.read_json(p, lines=True),
    }
    if path.suffix not in readers:
        raise TableError(f"{path}: found suffix {path.suffix!r}; accepted: {', '.join(readers)}")
    try:
        table = readers[path.suffix](path)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8 at byte {error.start}; save the table as UTF-8") from None
    except (OSError, ValueError) as error:  # pandas' and pyarrow's parser errors are ValueErrors
        raise TableError(f"{path}: cannot be read as {path.suffix[1:]} ({str(error).splitlines()[0]})") from None
    if table.empty:
        raise TableError(f"{path}: the table has no rows")
    return table


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write CSV (17 digits), parquet or JSON lines, whole or not at all."""
    writers: dict[str, Callable[[Path], object]] = {
        ".csv": lambda p: table.to_csv(p, index=False, float_format="%.17g"),
        ".parquet": lambda p: table.to_parquet(p, index=False),
        ".jsonl": lambda p: table.to_json(p, orient="records", lines=True, double_precision=15),
    }
    if path.suffix not in writers:
        raise TableError(f"{path}: found suffix {path.suffix!r}; accepted: {', '.join(writers)}")
    with replacing(path) as temporary:
        writers[path.suffix](temporary)


def map_columns(table: pd.DataFrame, columns: Columns, where: str) -> dict[str, str]:
    """Our names of the parts a fit needs -> the table's columns; TableError lists what there is."""
    mapping = {}
    wanted = (("n", columns.n), ("tokens", columns.d), ("loss", columns.loss), ("run", columns.run))
    for part, given in wanted:
        usual = USUAL_NAMES.get(part) or USUAL_NAMES["n_params_non_embedding"] + USUAL_NAMES["n_params_total"]
        names = (given,) if given is not None else usual
        found = next((name for name in names if name in table.columns), None)
        if found is not None:
            mapping[part] = found
        elif part != "run" or given is not None:
            option = {"n": "--n", "tokens": "--d", "loss": "--loss", "run": "--run"}[part]
            raise TableError(
                f"{where}: no column for {part} (looked for {', '.join(names)}); the table has "
                f"{', '.join(map(str, table.columns))}; name one with {option} COLUMN"
            )
    return mapping


def fit_columns(table: pd.DataFrame, mapping: dict[str, str], where: str) -> pd.DataFrame:
    """The columns n, tokens, loss (floats, finite, above 0) and run (text; one a row where the table names none)."""
    clean = pd.DataFrame(index=table.index)
    for part in ("n", "tokens", "loss"):
        column = mapping[part]
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if bad.size:
            found = table[column].iloc[bad[0]]
            shown = repr(found) if isinstance(found, str) else str(found)
            raise TableError(
                f"{where}, row {bad[0] + 1}: {column} is {shown}; accepted: a finite number above 0 "
                f"({bad.size} such row{'s' * (bad.size > 1)}); drop or mend them"
            )
        clean[part] = values
    clean["run"] = table[mapping["run"]].astype(str) if "run" in mapping else [str(i) for i in range(len(table))]
    return clean.reset_index(drop=True)


def annealed_only(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows whose loss is comparable between runs: phase "annealed", where the table has a phase."""
    if "phase" not in table.columns:
        return table
    kept = table[table["phase"] == "annealed"]
    if kept.empty:
        raise TableError(
            f"{where}: no row with phase annealed (found {', '.join(sorted(set(map(str, table['phase']))))}); losses taken "
            "before the learning rate has decayed do not belong in one fit; use --all-phases to fit them all the same"
        )
    return kept


def without_target(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are not a held-out target's, where the table has roles."""
    return table[table["role"] != "target"] if "role" in table.columns else table


def points_digest(points: pd.DataFrame) -> str:
    """SHA-256 of n, tokens, loss and run of the fitted points, order not counting."""
    rows = sorted(f"{p.run},{p.n!r},{p.tokens!r},{p.loss!r}" for p in points.itertuples())
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
