"""The inputs of `testbed diff`: a sweep's folder or archive, a table, or a fit; and whether two of them are comparable.

Two laws are comparable if their losses are of the same text in the same tokens and N is counted alike. Whatever is
against that, or cannot be known, is a warning.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.fit.comparison.curves import span
from testbed.analysis.fit.diagnostics import Finding
from testbed.errors import ConfigError, TableError
from testbed.points import annealed_only, read_table, without_target
from testbed.records import DataFacts
from testbed.sharing.unpacking import unpack
from testbed.training.store import SweepFolder
from testbed.training.store.sweep_points import sweep_points


@dataclass(frozen=True)
class ComparisonInput:
    """A table of runs or a fit, its name, and the file it is from; `facts` and `n` are known of a sweep only."""

    name: str
    where: str
    table: pd.DataFrame | None
    fit: Fit | None = None
    facts: DataFacts | None = None
    n: str | None = None


@dataclass(frozen=True)
class FitSettings:
    """How tables are fitted: the law (None: that of a given fit, or hoffmann), columns, Huber width and resamples."""

    law: str | None
    columns: dict[str, str]
    delta: float
    bootstrap: int
    seed: int


def read_input(path: Path, fit: Fit | None = None) -> ComparisonInput:
    """The input at `path`; `fit` is given if it is a FIT.json, already read.

    Raises:
        FolderError: The archive or folder cannot be read.
        TableError: There is no table of annealed losses in it.
    """
    if fit is not None:
        return ComparisonInput(_title(path.stem), str(path), None, fit)
    if path.is_dir():
        return _of_sweep(SweepFolder.open(path), str(path))
    if path.suffix == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            unpack(path, Path(folder, "sweep"))
            return _of_sweep(SweepFolder.open(Path(folder, "sweep")), str(path))
    table = annealed_only(without_target(read_table(path), str(path)), str(path))
    return ComparisonInput(_title(path.name.split(".")[0]), str(path), table)


def fit_both(inputs: tuple[ComparisonInput, ComparisonInput], settings: FitSettings) -> tuple[Fit, Fit]:
    """Fit both inputs with one law; if one is a fit, the other is fitted with its loss and Huber width."""
    given = next((one.fit for one in inputs if one.fit is not None), None)
    if given is not None and settings.law not in (None, given.law.name):
        raise ConfigError(f"--law: found {settings.law}, but the fit given is of {given.law.name}")
    first, second = (_fit(one, given, settings) for one in inputs)
    return first, second


def comparability_warnings(
    inputs: tuple[ComparisonInput, ComparisonInput], fits: tuple[Fit, Fit]
) -> tuple[Finding, ...]:
    """Why the two inputs are not comparable, or not known to be."""
    names = [one.name for one in inputs]
    found = []
    for column, code, what in (("n", "other-n", "N"), ("loss", "other-loss", "the loss")):
        used = [fit.columns[column] for fit in fits]
        if used[0] != used[1]:
            found.append(
                Finding(
                    code,
                    f"{what} is {used[0]} in {names[0]} and {used[1]} in {names[1]}: unless both columns hold the same, a "
                    "multiplier compares two ways of counting; name the columns with --n and --loss.",
                    dict(zip(names, used, strict=True)),
                )
            )
    found += _other_data(inputs, names)
    low, high = (max(span(fit)[0] for fit in fits), min(span(fit)[1] for fit in fits))
    if low > high:
        found.append(
            Finding(
                "no-common-compute",
                f"no compute at which both {names[0]} and {names[1]} have runs: every multiplier is an extrapolation of one "
                "of the laws.",
            )
        )
    for name, fit in zip(names, fits, strict=True):
        if fit.unidentified:
            found.append(
                Finding(
                    "unidentified",
                    f"{name} does not determine {', '.join(fit.unidentified)} of {fit.law.name}: read nothing into differences "
                    "of these; multipliers within the data stand nevertheless.",
                )
            )
    return tuple(found)


def _other_data(inputs: tuple[ComparisonInput, ComparisonInput], names: list[str]) -> list[Finding]:
    first, second = (one.facts for one in inputs)
    if first is None or second is None:
        unknown = " and ".join(one.where for one in inputs if one.facts is None)
        return [
            Finding(
                "unknown-data",
                f"{unknown}: nothing tells the validation tokens, so make sure that both losses are of the same text in the "
                "same tokens.",
            )
        ]
    remedy = "losses a token are not comparable; give --loss bpb where both have bits/byte of the same text"
    for code, what, values in (
        ("other-tokenizer", "tokenizer", (first.tokenizer, second.tokenizer)),
        ("other-vocabulary", "vocabulary", (first.vocab_size, second.vocab_size)),
        ("other-data", "validation data", (first.fingerprint, second.fingerprint)),
    ):
        if values[0] != values[1]:
            shown = [f"{str(value)[:16]} in {name}" for name, value in zip(names, values, strict=True)]
            tail = (
                remedy
                if code != "other-data"
                else "their losses are of different tokens, and a difference may be theirs"
            )
            evidence = {name: str(value) for name, value in zip(names, values, strict=True)}
            return [Finding(code, f"not comparable: {what} is {shown[0]} and {shown[1]}; {tail}.", evidence)]
    return []


def _title(name: str) -> str:
    """A file's name as a title: plain letters, not too many."""
    return re.sub(r"[^\w.+-]+", "_", name)[:40] or "_"


def _of_sweep(sweep: SweepFolder, where: str) -> ComparisonInput:
    table = sweep_points(sweep)
    if table.empty:
        raise TableError(f"{where}: no finished run yet; testbed train {where} goes on with them")
    table = annealed_only(without_target(table, where), where)
    return ComparisonInput(sweep.config.name, where, table, facts=sweep.specs[0].data, n=sweep.config.forecast.n)


def _fit(one: ComparisonInput, given: Fit | None, settings: FitSettings) -> Fit:
    if one.fit is not None:
        return one.fit
    assert one.table is not None
    columns = ({"n": one.n} if one.n else {}) | settings.columns
    alike = {} if given is None else {"loss": given.loss, "space": given.space, "fixed": given.fixed}
    return fit_law(
        settings.law or (given.law if given is not None else "hoffmann"),
        one.table,
        columns=columns,
        delta=settings.delta if given is None else given.delta,
        n_boot=settings.bootstrap,
        seed=settings.seed,
        where=one.where,
        **alike,  # type: ignore[arg-type]
    )
