"""Reading and writing points tables: CSV, TSV, parquet and JSON lines, chosen by the file's suffix.

A file that does not fit its own header is an error: no row is cut, and no value is moved to another column.
"""

from __future__ import annotations

import gzip
import json
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from testbed.errors import TableError
from testbed.files import replacing
from testbed.points.numbers import column_of

# pandas reads numbers to the last bit by default from 3.1 on, where the option for it is deprecated.
_VERSION = tuple(int(part) for part in pd.__version__.split(".")[:2])
_EXACT: dict[str, Any] = {"float_precision": "round_trip"} if _VERSION < (3, 1) else {}

_MOST_UNPACKED = 1 << 28  # bytes of a compressed table
_MOST_COLUMNS = 10_000
_MOST_CELLS = 1 << 27  # 1 GB of numbers
_PHASES = {"stable", "decaying", "annealed"}
_OURS = {"role", "phase", "horizon", "branch_step"}  # in every points table of the testbed


def read_table(path: Path | str) -> pd.DataFrame:
    """The table in a .csv, .tsv, .parquet or .jsonl file; the text formats also as .gz.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "runs.csv")
    >>> pd.DataFrame({"params": [7e6, 7e7], "tokens": [1.4e8, 1.4e9], "loss": [3.25, 2.5]}).to_csv(path, index=False)
    >>> read_table(path)["loss"].tolist()
    [3.25, 2.5]

    Numbers are read to the last bit. Several columns of one name keep it; using one of them is an error.

    Raises:
        TableError: It cannot be read, is too large, or has no rows.
    """
    path = Path(path)
    suffix, zipped = _format(path)
    try:
        content = path.read_bytes()
        table = _READERS[suffix](_unpacked(content) if zipped else content)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8 at byte {error.start}; save the table as UTF-8") from None
    except MemoryError:
        raise TableError(f"{path}: does not fit into this machine's memory; split it, or leave columns out") from None
    except (OSError, EOFError, zlib.error, ValueError, NotImplementedError, RecursionError) as error:
        # pandas' and pyarrow's parser errors are among them
        raise TableError(f"{path}: cannot be read as {suffix[1:]} ({_reason(error)})") from None
    if table.empty:
        raise TableError(f"{path}: the table has no rows")
    return _with_lr_at_step(table, path)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a .csv, .tsv, .parquet or .jsonl file, whole or not at all, with numbers to the last bit.

    Raises:
        DiskError: The file cannot be written.
        TableError: The suffix names another format.
    """
    writers: dict[str, Callable[[Path], object]] = {
        ".csv": lambda p: _write_separated(table, p, ","),
        ".tsv": lambda p: _write_separated(table, p, "\t"),
        ".parquet": lambda p: table.to_parquet(p, index=False),
        ".jsonl": lambda p: _write_json_lines(table, p),
    }
    if path.suffix not in writers:
        raise TableError(f"{path}: found suffix {path.suffix!r}; accepted: {', '.join(writers)}")
    with replacing(path) as temporary:
        writers[path.suffix](temporary)


def annealed_only(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows whose losses are comparable between runs: those of phase "annealed", if the table has our phases.

    A table with other phases, or none, is returned as it is.

    Raises:
        TableError: No row is annealed.
    """
    if "phase" not in table.columns:
        return table
    phases = {phase if isinstance(phase, str) else None for phase in column_of(table, "phase", where)}
    if not phases <= _PHASES:
        return table
    kept = table[table["phase"] == "annealed"]
    if kept.empty:
        raise TableError(
            f"{where}: no row with phase annealed (found {', '.join(sorted(map(str, phases)))}); losses taken "
            "before the learning rate has decayed do not belong in one fit; use --all-phases to fit them anyway"
        )
    return kept


def without_target(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows of runs other than the held-out target; all, if the table has no roles."""
    if "role" not in table.columns:
        return table
    return table[[role != "target" for role in column_of(table, "role", where).astype(object)]]


def _with_lr_at_step(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A points table of an older testbed, which called the rate at a logged step lr, by today's names."""
    if not _OURS | {"lr"} <= set(table.columns) or "lr_at_step" in table.columns:
        return table
    warnings.warn(f"{path}: its column lr, the decayed rate at each row's step, is read as lr_at_step", stacklevel=3)
    return table.rename(columns={"lr": "lr_at_step"})


def _format(path: Path) -> tuple[str, bool]:
    """The suffix that names the format, and whether the file is compressed."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if zipped else suffixes)[-1:] or [""]
    if suffix[0] not in _READERS or (zipped and suffix[0] == ".parquet"):
        found = "".join(path.suffixes[-2:]) if zipped else path.suffix
        raise TableError(
            f"{path}: found suffix {found!r}; accepted: {', '.join(_READERS)}, and all but .parquet also with .gz"
        )
    return suffix[0], zipped


def _unpacked(content: bytes) -> bytes:
    """The content of a gzip file, up to a limit: a small file may unpack to more than fits into memory."""
    with gzip.open(BytesIO(content)) as file:
        unpacked = file.read(_MOST_UNPACKED + 1)
    if len(unpacked) > _MOST_UNPACKED:
        raise ValueError(
            f"it unpacks to more than {_MOST_UNPACKED >> 20} MB; unpack it yourself to have it read anyway"
        )
    return unpacked


def _check_size(rows: int, columns: int) -> None:
    if columns > _MOST_COLUMNS or rows * columns > _MOST_CELLS:
        raise ValueError(
            f"{rows:,} rows of {columns:,} columns; at most {_MOST_COLUMNS:,} columns and {_MOST_CELLS:,} values"
        )


def _read_separated(content: bytes, separator: str) -> pd.DataFrame:
    text = content.decode("utf-8-sig")
    _check_size(1, text[: text.find("\n")].count(separator))
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            # index_col=False: else a row of more fields than the header would shift every column by one
            table: pd.DataFrame = pd.read_csv(
                StringIO(text), sep=separator, index_col=False, low_memory=False, **_EXACT
            )
        except pd.errors.ParserWarning:
            raise ValueError("the rows have more fields than the header; name every column") from None
    first = pd.read_csv(StringIO(text), sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False)
    header = first.iloc[0].tolist()
    if len(header) == len(table.columns):  # pandas renames the second of two columns of one name
        times = Counter(header)
        table.columns = pd.Index([h if times[h] > 1 else c for h, c in zip(header, table.columns, strict=True)])
    return table


def _read_parquet(content: bytes) -> pd.DataFrame:
    from pyarrow import parquet  # takes a while

    try:
        facts = parquet.ParquetFile(BytesIO(content)).metadata
        _check_size(facts.num_rows, facts.num_columns)
        table = pd.read_parquet(BytesIO(content))
    except (KeyError, TypeError, IndexError, AttributeError) as error:  # broken metadata
        raise ValueError(f"{type(error).__name__}: {error}") from None
    named = [name for name in table.index.names if name is not None]
    return table.reset_index(level=named).reset_index(drop=True) if named else table.reset_index(drop=True)


def _read_json_lines(content: bytes) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line, object_pairs_hook=_object)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(
                    f"line {number} holds {line.strip()[:40]}; accepted: an object with columns as its keys"
                )
            rows.append(row)
    _check_size(len(rows), len({name for row in rows for name in row}))
    return pd.DataFrame(rows)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _write_separated(table: pd.DataFrame, path: Path, separator: str) -> None:
    """Write by pyarrow, ten times as fast as pandas; by pandas if a text needs quotes or an integer exceeds 64 bits."""
    options = csv.WriteOptions(include_header=False, delimiter=separator, quoting_style="none")
    try:
        with path.open("wb") as file:
            table.head(0).to_csv(file, index=False, sep=separator)
            csv.write_csv(pa.Table.from_pandas(table, preserve_index=False), file, options)
    except (ValueError, TypeError, OverflowError):
        table.to_csv(path, index=False, float_format="%.17g", sep=separator)


def _write_json_lines(table: pd.DataFrame, path: Path) -> None:
    """Write JSON lines: numbers to the last bit, missing values as null."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


_READERS: dict[str, Callable[[bytes], pd.DataFrame]] = {
    ".csv": partial(_read_separated, separator=","),
    ".tsv": partial(_read_separated, separator="\t"),
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
}
