"""The commands that hand results on: a sweep as one archive, two sweeps side by side, a run as a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.output import console

if TYPE_CHECKING:
    from testbed.sharing.members import Packed


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a finished run's folder, runs/SWEEP/runs/ID")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="a new folder")],
) -> None:
    """Write a run as a model folder of transformers, with tokenizer and card."""
    from testbed.sharing.export import export as export_run

    export_run(run, out)
    console.print(f"written: {out}", markup=False, soft_wrap=True)


def pack(
    folder: Annotated[Path, typer.Argument(metavar="SWEEP", help="a sweep's folder, such as runs/quick")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="SWEEP.zip", help="the archive")],
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="with weights and checkpoints")] = False,
) -> None:
    """Write a sweep's records, points and page as one archive, to be read elsewhere."""
    from testbed.sharing.packing import pack as pack_sweep

    _print_packed(out, pack_sweep(folder, out, checkpoints))


def unpack(
    archive: Annotated[Path, typer.Argument(metavar="SWEEP.zip", help="what testbed pack wrote, or anybody's")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="a new folder")],
) -> None:
    """Check an archive against its manifest and write it as a sweep's folder again."""
    from testbed.sharing.unpacking import unpack as unpack_sweep

    _print_packed(out, unpack_sweep(archive, out))


def _print_packed(out: Path, packed: Packed) -> None:
    from testbed.units import show_bytes

    console.print(f"written: {out}, {packed.files:,} files, {show_bytes(packed.size)}", markup=False, soft_wrap=True)
    console.print(f"manifest: {packed.digest}", markup=False)


COMMANDS = (pack, unpack, export)
