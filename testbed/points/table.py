"""Reading and writing points tables: CSV, TSV, JSON, JSON lines, parquet and Excel, chosen by the file's suffix.

A file that does not fit its own header is an error: no row is cut, and no value is moved to another column.
"""

from __future__ import annotations

import gzip
import json
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from testbed.errors import TableError
from testbed.files import replacing
from testbed.points.json_tables import read_json, read_json_lines
from testbed.points.numbers import column_of
from testbed.points.separated import header_width, read_separated
from testbed.points.spelled_numbers import plain_numbers

_MOST_UNPACKED = 1 << 28  # bytes of a compressed table
_MOST_COLUMNS = 10_000
_MOST_CELLS = 1 << 27  # 1 GB of numbers
_PHASES = {"stable", "decaying", "annealed"}
_OURS = {"role", "phase", "horizon", "branch_step"}  # in every points table of the testbed


def read_table(path: Path | str) -> pd.DataFrame:
    """The table in a .csv, .tsv, .txt, .json, .jsonl, .parquet or .xlsx file; the text formats also as .gz.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "runs.csv")
    >>> pd.DataFrame({"params": [7e6, 7e7], "tokens": [1.4e8, 1.4e9], "loss": [3.25, 2.5]}).to_csv(path, index=False)
    >>> read_table(path)["loss"].tolist()
    [3.25, 2.5]

    Numbers are read to the last bit. Several columns of one name keep it; using one of them is an error. Values may
    be separated by semicolons, tabs or blanks too, lines may be comments (#), and numbers may have thousands
    separators or decimal commas (see `points.separated`); what is read so is told in a warning.

    Raises:
        TableError: It cannot be read, is too large, or has no rows.
    """
    path = Path(path)
    suffix, zipped = _format(path)
    try:
        content = path.read_bytes()
        content = _unpacked(content) if zipped else content
        table = _read_excel(content, path) if suffix == ".xlsx" else _READERS[suffix](content)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8 at byte {error.start}; save the table as UTF-8") from None
    except MemoryError:
        raise TableError(f"{path}: does not fit into this machine's memory; split it, or leave columns out") from None
    except (OSError, EOFError, zlib.error, ValueError, NotImplementedError, RecursionError) as error:
        # pandas' and pyarrow's parser errors are among them
        raise TableError(
            f"{path}: cannot be read as {suffix[1:]} ({_reason(error)}){_disguise(path, suffix)}"
        ) from None
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
    if suffix[0] not in _FORMATS or (zipped and suffix[0] in _BINARY):
        found = "".join(path.suffixes[-2:]) if zipped else path.suffix
        hint = f"; {_INSTEAD[suffix[0]]}" if suffix[0] in _INSTEAD else ""
        raise TableError(
            f"{path}: found suffix {found!r}; accepted: {', '.join(_FORMATS)}, and all but {' and '.join(_BINARY)} also "
            f"with .gz{hint}"
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
    _check_size(1, header_width(text, separator))
    return read_separated(text, separator)


def _read_json(content: bytes) -> pd.DataFrame:
    return plain_numbers(read_json(content.decode("utf-8-sig"), _check_size))


def _read_json_lines(content: bytes) -> pd.DataFrame:
    return plain_numbers(read_json_lines(content.decode("utf-8-sig"), _check_size))


def _read_excel(content: bytes, path: Path) -> pd.DataFrame:
    from testbed.points.excel import read_excel  # needed for this format only

    table = read_excel(content, str(path))
    _check_size(*table.shape)
    return plain_numbers(table)


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


def _disguise(path: Path, suffix: str) -> str:
    """What a file that cannot be read is by its first bytes, where that is another format."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError:
        return ""
    for mark, (usual, said) in _MARKS.items():
        if start.startswith(mark) and usual != suffix:
            return f"; it is {said}: {'save it as .csv' if usual == '.xls' else f'name it {usual}'}"
    return ""


_MARKS = {
    b"PK\x03\x04": (".xlsx", "a zip file, such as an Excel table"),
    b"PAR1": (".parquet", "a parquet file"),
    b"\x1f\x8b": (".gz", "a compressed file"),
    b"\xd0\xcf\x11\xe0": (".xls", "an old Excel file"),
}
_READERS: dict[str, Callable[[bytes], pd.DataFrame]] = {
    ".csv": partial(_read_separated, separator=","),
    ".tsv": partial(_read_separated, separator="\t"),
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".txt": partial(_read_separated, separator=","),
    ".ndjson": _read_json_lines,
}
_FORMATS = (*_READERS, ".xlsx")
_BINARY = (".parquet", ".xlsx")
_INSTEAD = {
    ".xls": "save it as .xlsx or .csv",
    ".ods": "save it as .xlsx or .csv",
    ".pkl": "a pickle may run code and is never read; in Python: pandas.read_pickle(FILE).to_csv(NEW, index=False)",
    ".pickle": "a pickle may run code and is never read; in Python: pandas.read_pickle(FILE).to_csv(NEW, index=False)",
    ".feather": "in Python: pandas.read_feather(FILE).to_parquet(NEW)",
    ".yaml": "write it as .json",
    ".yml": "write it as .json",
    ".md": "write its table as .csv",
    ".npz": "in Python: pandas.DataFrame(dict(numpy.load(FILE))).to_csv(NEW, index=False)",
}
