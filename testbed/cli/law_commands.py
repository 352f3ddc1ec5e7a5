"""The command that lists the library of laws."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from testbed.cli.output import AsJson, console, print_json, print_table
from testbed.cli.table_options import allow_laws


def laws(
    name: Annotated[str | None, typer.Argument(metavar="LAW", help="one law, with its parameters and columns")] = None,
    as_json: AsJson = False,
) -> None:
    """List the library of laws with their formulas and sources."""
    from testbed.analysis.laws import LAWS, find_law, plain_formula

    allow_laws(*([] if name is None else [name]))
    chosen = list(LAWS.values()) if name is None else [find_law(name)]
    if as_json:
        print_json([_law_facts(law) for law in chosen])
        return
    if name is not None:
        facts = _law_facts(chosen[0])
        console.say((facts["name"], "bold"), f"  {facts['formula']}")
        console.say(facts["about"])
        for key in ("response", "columns", "params", "residuals", "source"):
            value = facts[key]
            console.say(f"{key}: {', '.join(value) if isinstance(value, list) else value}")
        return
    from testbed.analysis.report.study.tables import TextTable

    rows = tuple((law.name, plain_formula(law), ", ".join(law.columns), law.source) for law in chosen)
    print_table(TextTable(("law", "formula", "columns", "source"), rows))


def _law_facts(law: Any) -> dict[str, Any]:
    from testbed.analysis.laws import plain_formula

    return {
        "name": law.name,
        "formula": plain_formula(law),
        "latex": law.formula,
        "response": law.response,
        "columns": list(law.columns),
        "params": [p.name for p in law.parameters],
        "residuals": f"of the {'log ' if law.space == 'log' else ''}response",
        "source": law.source,
        "about": inspect.getdoc(law) or "",
    }


COMMANDS = (laws,)
