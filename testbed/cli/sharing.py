"""The commands that hand results on: a sweep as one archive, two sweeps side by side, a run as a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.output import console


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a finished run's folder, runs/SWEEP/runs/ID")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="a new folder")],
) -> None:
    """Write a run as a model folder of transformers, with tokenizer and card."""
    from testbed.sharing.export import export as export_run

    export_run(run, out)
    console.print(f"written: {out}", markup=False, soft_wrap=True)


COMMANDS = (export,)
