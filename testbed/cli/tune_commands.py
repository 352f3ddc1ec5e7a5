"""The command that tests the learning-rate rule and writes the certificate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from testbed.cli.given_options import refuse_options
from testbed.cli.output import AsJson, Terminal, console, errors, print_json, print_table
from testbed.cli.study_commands import Device, Overrides, Retry, Workers, load_settings
from testbed.errors import ConfigError
from testbed.units import parse_count, show_count

if TYPE_CHECKING:
    from testbed.analysis.certificate.certificate import Certificate
    from testbed.config import Config
    from testbed.study import Study
    from testbed.study.tune import Brackets, Tuning

Number = TypeVar("Number", int, float)


def tune(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="CONFIG", help="a configuration, or the folder of a study")],
    overrides: Overrides = None,
    widths: Annotated[
        str | None, typer.Option(help="widths of the grid to bracket; the smallest and the largest if not given")
    ] = None,
    factors: Annotated[
        str | None, typer.Option(help="multiples of the rule's rate; .35,.5,.71,1,1.41,2,2.8 if not given")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="further batches to bracket, in tokens a step")] = None,
    seeds: Annotated[int | None, typer.Option(help="number of the grid's seeds; two if not given")] = None,
    check: Annotated[bool, typer.Option("--check", help="train nothing; check the study's finished grid only")] = False,
    out: Annotated[Path | None, typer.Option(help="the brackets' folder; the study's with -tune if not given")] = None,
    device: Device = None,
    workers: Workers = None,
    retry_failed: Retry = False,
    as_json: AsJson = False,
) -> None:
    """Test the learning-rate rule on this grid: brackets at its corners, a coordinate check, and a certificate."""
    from testbed.records import as_json as record_json
    from testbed.study.tune import Tuning

    study, config, home = _subject(path, overrides, device, workers)
    if check:
        of_brackets = ("widths", "factors", "batch", "seeds", "out", "device", "workers", "retry_failed")
        refuse_options(context, "--check trains nothing: there are no brackets; leave it out", *of_brackets)
        certificate, folders = _checked(study, path), [home]
    else:
        brackets = _brackets(widths, factors, batch, seeds)
        tuning = Tuning.create(config, out or home.with_name(f"{home.name}-tune"), brackets, home)
        _train(tuning, retry_failed, errors if as_json else console)
        certificate = tuning.certificate(study)
        folders = [tuning.folder.path, *([home] if study is not None else [])]
    files = [certificate.write(folder) for folder in folders]
    if as_json:
        print_json(record_json(certificate))
        return
    _print(certificate, path)
    for file in files:
        console.say("certificate: ", (str(file), "bold"))


def _subject(
    path: Path, overrides: list[str] | None, device: str | None, workers: int | None
) -> tuple[Study | None, Config, Path]:
    """The study, if its folder exists; the configuration; where the study's folder is or would be."""
    from testbed.study import Study
    from testbed.training.store import SweepFolder

    if path.is_dir():
        if overrides:
            raise ConfigError(f"{path}: a study's configuration is settled; --set is for a CONFIG")
        study = Study.open(path).executed_with(device, workers)
        return study, study.folder.config, path
    config = load_settings(path, overrides, device, workers)
    home = config.home
    if SweepFolder.exists(home):
        found = Study.open(home)
        own = config.under(found.folder.config.data.rules)
        if found.folder.config.hash() == own.hash():
            return found.executed_with(device, workers), own, home
    return None, config, home


def _checked(study: Study | None, path: Path) -> Certificate:
    from testbed.study.tune import check

    if study is None:
        raise ConfigError(f"{path}: --check looks at a study's finished grid; train it first, or give its folder")
    return check(study)


def _brackets(widths: str | None, factors: str | None, batch: str | None, seeds: int | None) -> Brackets:
    from testbed.study.tune import FACTORS, Brackets

    return Brackets(
        widths=_numbers(widths, "--widths", int) if widths else None,
        factors=_numbers(factors, "--factors", float) if factors else FACTORS,
        batches=_numbers(batch, "--batch", parse_count) if batch else (),
        seeds=seeds,
    )


def _train(tuning: Tuning, retry_failed: bool, terminal: Terminal) -> None:
    from testbed.study import Study
    from testbed.study.progress import progress

    cost = f"{show_count(tuning.flops)} FLOPs, {tuning.share:.2g} times the grid's"
    terminal.say(f"{len(tuning.folder.specs)} runs, {cost}; in {tuning.folder.path}")
    with progress(Study(tuning.folder), "tune", terminal) as watcher:
        tuning.train(watcher, retry_failed)


def _numbers(text: str, option: str, parse: Callable[[str], Number]) -> tuple[Number, ...]:
    try:
        return tuple(parse(part.strip()) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option}: found {text!r}; accepted: numbers with commas between them") from None


def _print(certificate: Certificate, path: Path) -> None:
    from testbed.analysis.report.certificate.certificate_sentences import (
        certificate_sentences,
        corners_table,
        rungs_table,
        verdict_sentence,
    )

    if certificate.corners:
        print_table(corners_table(certificate))
    if certificate.rungs:
        print_table(rungs_table(certificate))
    console.say((verdict_sentence(certificate), "bold"))
    for sentence in certificate_sentences(certificate, str(path)):
        console.say(sentence)


COMMANDS = (tune,)
