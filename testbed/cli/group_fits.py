"""Prints a fit for each group of a table's rows: the part of `testbed fit` behind --by and --share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.cli.output import console, print_json, print_notes, print_table, print_warnings
from testbed.cli.table_options import Selection
from testbed.errors import ConfigError

if TYPE_CHECKING:
    from testbed.analysis.fit.groups import GroupedFit
    from testbed.analysis.report.study.tables import TextTable


@dataclass(frozen=True)
class Asked:
    """What is asked of the fits: level and kind of the intervals, the file to write, and JSON."""

    level: float
    interval: str
    out: Path | None
    as_json: bool


def print_groups(
    law: str, chosen: Selection, by: str | None, share: str | None, ways: dict[str, Any], asked: Asked
) -> None:
    """Fit each group and print a table of them, or JSON; with --out write a file for each group.

    Raises:
        ConfigError: --share is given without --by.
    """
    from testbed.analysis.fit.document import summary_dict, to_dict
    from testbed.analysis.fit.groups import fit_groups
    from testbed.files import write_json

    if by is None:
        raise ConfigError("--share: say what the groups are: --by COLUMN --share alpha,beta")
    if asked.interval != "percentile":
        raise ConfigError(f"--interval: found {asked.interval}; accepted with --by: percentile")
    shared = tuple(name.strip() for name in (share or "").split(",") if name.strip())
    grouped = fit_groups(law, chosen.rows, by, share=shared, **ways)
    findings = grouped.diagnostics(chosen.rows)
    written = []
    for name, fit in grouped.fits.items():
        if asked.out is not None:
            notes = {"warnings": [finding.to_dict() for finding in findings.get(name, ())], "group": {by: name}}
            path = asked.out.with_name(f"{asked.out.stem}-{_plain(name)}{asked.out.suffix}")
            write_json(path, to_dict(fit, asked.level) | notes)
            written.append(path)
    if asked.as_json:
        print_json(
            {
                "by": by,
                "share": list(shared),
                "groups": {name: summary_dict(fit, asked.level) for name, fit in grouped.fits.items()},
                "refused": grouped.refused,
                "warnings": {name: [finding.to_dict() for finding in found] for name, found in findings.items()},
            }
        )
        return
    print_notes(chosen.notes)
    print_table(_table(grouped, asked.level))
    for name, reason in grouped.refused.items():
        console.say(f"{name}: {reason}")
    for name, found in findings.items():
        if found:
            console.say((name if grouped.shared else f"{by} {name}", "bold"))
            print_warnings(found)
    for path in written:
        console.say(f"written: {path}")


def _table(grouped: GroupedFit, level: float) -> TextTable:
    """A row a group, with each parameter and its interval; shared parameters are marked."""
    from testbed.analysis.report.study.tables import TextTable

    rows = []
    names = list(next(iter(grouped.fits.values())).theta)
    for row in grouped.table(level).to_dict("records"):
        cells = [str(row[grouped.by]), str(row["points"]), str(row["runs"])]
        for name in names:
            held = f"{name}_low" not in row
            ends = "" if held else f" ({row[f'{name}_low']:.4g} to {row[f'{name}_high']:.4g})"
            cells.append(f"{row[name]:.4g}{ends}")
        rows.append(tuple(cells))
    titles = (f"{name}, shared" if name in grouped.shared else name for name in names)
    return TextTable((grouped.by, "points", "runs", *titles), tuple(rows))


def _plain(name: str) -> str:
    """A group's value as part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", name) or "_"
