"""The command that shows the data of a configuration before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.output import AsJson, console, print_json
from testbed.cli.study_commands import Overrides, load_settings
from testbed.errors import ConfigError

ConfigOrFolder = Annotated[Path, typer.Argument(metavar="CONFIG", help="a configuration, or a sweep's folder")]


def data(config: ConfigOrFolder, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show what the data of a configuration hold: files, documents, splits, copies, what is left out, a sample."""
    if config.is_dir():
        from testbed.training.store import SweepFolder

        if overrides:
            raise ConfigError(f"--set: the configuration of {config} is settled; give a CONFIG to show other data")
        settings = SweepFolder.open(config).config
    else:
        settings = load_settings(config, overrides, None, None)
    from testbed.training.data import open_source
    from testbed.training.data.description import describe

    cells = {cell.data.source + str(cell.data.identity()): cell.data for cell in map(settings.at, settings.cells())}
    found = [describe(open_source(each)) for each in cells.values()]
    if as_json:
        print_json(found[0].as_json() if len(found) == 1 else [each.as_json() for each in found])
        return
    for each in found:
        console.say((each.facts.source, "bold"))
        for line in each.sentences():
            console.say(line, indent=2)


COMMANDS = (data,)
