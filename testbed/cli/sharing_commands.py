"""The commands that share and compare results: archives, two recipes side by side, a run as a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.given_options import refuse_options
from testbed.cli.option_groups import with_groups
from testbed.cli.output import AsJson, console, print_json, print_table, print_warnings
from testbed.cli.table_options import Bootstrap, ColumnOptions, Delta, Level, Seed

if TYPE_CHECKING:
    from testbed.sharing.members import Packed


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a finished run's folder, runs/SWEEP/runs/ID")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="a new folder")],
) -> None:
    """Write a run as a model folder of transformers, with tokenizer and card."""
    from transformers.utils.logging import disable_progress_bar

    from testbed.sharing.export import export as export_run

    disable_progress_bar()
    export_run(run, out)
    console.say(f"written: {out}")


def pack(
    folder: Annotated[Path, typer.Argument(metavar="SWEEP", help="a sweep's folder, such as runs/quick")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="SWEEP.zip", help="the archive")],
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="with weights and checkpoints")] = False,
) -> None:
    """Write a sweep's records, points and page as one archive."""
    from testbed.sharing.archive import pack as pack_sweep

    _print_packed(out, pack_sweep(folder, out, checkpoints))


def unpack(
    archive: Annotated[Path, typer.Argument(metavar="SWEEP.zip", help="an archive that testbed pack wrote")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="a new folder")],
) -> None:
    """Check an archive against its manifest and write it as a sweep's folder."""
    from testbed.sharing.unpacking import unpack as unpack_sweep

    _print_packed(out, unpack_sweep(archive, out))


@with_groups
def diff(
    context: typer.Context,
    first: Annotated[Path, typer.Argument(metavar="A", help="a sweep's folder or .zip, a table, or a FIT.json")],
    second: Annotated[Path, typer.Argument(metavar="B", help="what A is compared with")],
    law: Annotated[str | None, typer.Option(help="the law of both; hoffmann if not given")] = None,
    *,
    columns: ColumnOptions,
    delta: Delta = 1e-3,
    bootstrap: Bootstrap = 1000,
    level: Level = 0.9,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="PAGE.html", help="write a page")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two recipes by their laws: parameters, compute multiplier, where they cross."""
    from testbed.analysis.fit.comparison.recipes import compare_recipes, sentences
    from testbed.cli.predict_commands import read_fit
    from testbed.study.inputs import FitSettings, comparability_warnings, fit_both, read_input

    a, b = (read_input(path, read_fit(path) if path.suffix == ".json" else None) for path in (first, second))
    fitted = [one.where for one in (a, b) if one.fit is not None]
    if fitted:
        refuse_options(context, f"{fitted[0]} has its own, and the other is fitted alike; leave it out", "delta")
    if len(fitted) == 2:
        settled = "both inputs are fits, nothing is fitted again; leave it out, or give tables"
        refuse_options(context, settled, "n", "d", "loss", "run", "bootstrap")
    fits = fit_both((a, b), FitSettings(law, columns.named, delta, bootstrap, seed))
    names = ("A", "B") if a.name == b.name else (a.name, b.name)
    compared = compare_recipes(*fits, names, level, seed, comparability_warnings((a, b), fits))
    if out is not None:
        from testbed.analysis.report.recipes.recipe_page import save_page

        save_page(compared, out)
    if as_json:
        print_json(compared.to_dict())
        return
    from testbed.analysis.report.recipes.recipe_page import loss_table, parameter_table

    for name, given, fit in zip(names, (a, b), fits, strict=True):
        console.say(f"{name}: {given.where}, {fit.nobs} points of {fit.n_runs} runs")
    print_table(parameter_table(compared))
    print_table(loss_table(compared))
    for sentence in sentences(compared):
        console.say(sentence)
    print_warnings(compared.warnings)
    if out is not None:
        console.say(f"written: {out}")


def _print_packed(out: Path, packed: Packed) -> None:
    from testbed.units import show_bytes

    console.say(f"written: {out}, {packed.files:,} files, {show_bytes(packed.size)}")
    console.say(f"manifest: {packed.digest}")


COMMANDS = (pack, unpack, diff, export)
