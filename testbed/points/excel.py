"""Reads the first sheet of an Excel file that holds anything, by openpyxl, which the extra [excel] brings."""

from __future__ import annotations

import warnings
import zipfile
from io import BytesIO

import pandas as pd

from testbed.errors import TableError

_MOST_UNPACKED = 1 << 28  # bytes


def read_excel(content: bytes, path: str) -> pd.DataFrame:
    """The table in an .xlsx file; a warning says which sheet was read where several hold something.

    Raises:
        TableError: openpyxl is not installed.
        ValueError: It is no such file, or unpacks to more than 256 MB.
    """
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise TableError(
            f"{path}: reading .xlsx needs openpyxl, which is not installed: pip install openpyxl (or the extra [excel]); "
            "or save the sheet as CSV"
        ) from None
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if sum(part.file_size for part in archive.infolist()) > _MOST_UNPACKED:
                raise ValueError(f"it unpacks to more than {_MOST_UNPACKED >> 20} MB; save the sheet as CSV")
        sheets = pd.read_excel(BytesIO(content), sheet_name=None, engine="openpyxl")
    except (
        zipfile.BadZipFile,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:  # no workbook, or a broken one
        raise ValueError(f"{type(error).__name__}: {error}") from None
    filled = {name: sheet for name, sheet in sheets.items() if not sheet.empty}
    if not filled:
        return pd.DataFrame()
    first, table = next(iter(filled.items()))
    if len(filled) > 1:
        rest = ", ".join(name for name in filled if name != first)
        warnings.warn(f"{path}: the sheet {first} is read; others are {rest}", stacklevel=4)
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    return table
