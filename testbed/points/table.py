"""The points table: one row a loss. From here on a table of anyone's runs is as good as our own.

Columns that a fit needs: a parameter count, tokens, loss. The others are used where they are there.
Reads and writes CSV, parquet and JSON lines, chosen by the file's suffix.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
