"""Lays out a table as lines of text, no wider than the terminal, with every word and number whole.

The first of these that fits: the table as it is; its text wrapped between words; its columns in blocks below each
other; one `title: value` a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from testbed.cli.word_wrap import pieces, wrap

if TYPE_CHECKING:
    from testbed.analysis.report.study.tables import TextTable

_GAP = "  "
_SHORT = 24  # a longer cell is text, which may be wrapped; a number with its unit or its interval is shorter
_NARROW = 12  # text is not wrapped to less, so that a narrow column does not become a tower of words


def lay_out(table: TextTable, width: int | None) -> list[str]:
    """The lines of a table, its titles first; `width` is None where lines may have any length."""
    columns = [list(column) for column in zip(table.titles, *table.rows, strict=True)]
    natural = [max(map(cell_len, column)) for column in columns]
    if width is None or _total(natural) <= width:
        return _side_by_side(columns, natural)
    least = [_least(column) for column in columns]
    if _total(least) <= width:
        return _side_by_side(columns, _shrunk(natural, least, width))
    blocks = _blocks(least, table.keys, width)
    if blocks is None:
        return _records(columns, width)
    lines: list[str] = []
    for block in blocks:
        chosen = _rows_with_values([columns[k] for k in block], table.keys)
        widths = _shrunk([natural[k] for k in block], [least[k] for k in block], width)
        lines += ["", *_side_by_side(chosen, widths)] if lines else _side_by_side(chosen, widths)
    return lines


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _least(column: list[str]) -> int:
    """The narrowest that a column may be: its longest word, and its longest cell unless that is wrapped."""
    words = [cell_len(word) for cell in column for word in cell.split()]
    title, *cells = column
    whole = [cell_len(cell) if cell_len(cell) <= _SHORT else min(cell_len(cell), _NARROW) for cell in cells]
    return max([*words, *whole, min(cell_len(title), _NARROW)])


def _shrunk(natural: list[int], least: list[int], width: int) -> list[int]:
    """Widths that fit: the column with most to give is narrowed, a cell at a time."""
    widths = list(natural)
    while _total(widths) > width:
        spare = [have - need for have, need in zip(widths, least, strict=True)]
        widths[spare.index(max(spare))] -= 1
    return widths


def _blocks(least: list[int], keys: int, width: int) -> list[list[int]] | None:
    """Columns by block, each with the `keys` first ones; None where one column is too wide beside those."""
    key, blocks = list(range(keys)), [list(range(keys))]
    for column in range(keys, len(least)):
        if _total([least[k] for k in (*blocks[-1], column)]) > width:
            blocks.append(list(key))
        blocks[-1].append(column)
        if _total([least[k] for k in blocks[-1]]) > width:
            return None
    return blocks if len(blocks[0]) > keys else blocks[1:]


def _rows_with_values(columns: list[list[str]], keys: int) -> list[list[str]]:
    """The columns of a block without the rows that hold nothing beside their key."""
    rows = [row for row in zip(*columns, strict=True) if any(row[keys:])]
    return [list(column) for column in zip(*rows, strict=True)]


def _side_by_side(columns: list[list[str]], widths: list[int]) -> list[str]:
    lines = []
    for row in zip(*columns, strict=True):
        cells = [pieces(cell, width) for cell, width in zip(row, widths, strict=True)]
        for line in range(max(map(len, cells))):
            parts = [cell[line] if line < len(cell) else "" for cell in cells]
            padded = [part + " " * (width - cell_len(part)) for part, width in zip(parts, widths, strict=True)]
            lines.append(_GAP.join(padded).rstrip())
    return lines


def _records(columns: list[list[str]], width: int) -> list[str]:
    titles, *rows = zip(*columns, strict=True)
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        for title, cell in zip(titles, row, strict=True):
            lines += wrap(f"{title}: {cell}", width, indent=_GAP) if cell else []
    return lines
