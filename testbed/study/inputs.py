"""One side of a comparison: a sweep's folder or archive, anyone's table, or a fit; what it says of its data.

Two laws can be held against each other where losses are of the same text in the same tokens and N is
counted alike; what stands against that is a finding.
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
class Side:
    """A table of runs or a fit, what it is called and where it is from; `facts` and `n` where a sweep tells them."""

    name: str
    where: str
    table: pd.DataFrame | None
    fit: Fit | None = None
    facts: DataFacts | None = None
    n: str | None = None


@dataclass(frozen=True)
class Way:
    """How tables are fitted: the law (that of a given fit, where there is one), columns, and resamples."""

    law: str | None
    columns: dict[str, str]
    delta: float
    bootstrap: int
    seed: int


def read_side(path: Path, fit: Fit | None = None) -> Side:
    """What `path` holds; `fit` is given where it is a FIT.json that was read already."""
    if fit is not None:
        return Side(_called(path.stem), str(path), None, fit)
    if path.is_dir():
        return _of_sweep(SweepFolder.open(path), str(path))
    if path.suffix == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            unpack(path, Path(folder, "sweep"))
            return _of_sweep(SweepFolder.open(Path(folder, "sweep")), str(path))
    table = annealed_only(without_target(read_table(path), str(path)), str(path))
    return Side(_called(path.name.split(".")[0]), str(path), table)


def fits_of(sides: tuple[Side, Side], way: Way) -> tuple[Fit, Fit]:
    """Both sides' fits of one law, with the same loss and Huber width where a fit is given."""
    given = next((side.fit for side in sides if side.fit is not None), None)
    if given is not None and way.law not in (None, given.law.name):
        raise ConfigError(f"--law: found {way.law}, but the fit given is of {given.law.name}")
    first, second = (_fit(side, given, way) for side in sides)
    return first, second


def doubts(sides: tuple[Side, Side], fits: tuple[Fit, Fit]) -> tuple[Finding, ...]:
    """Why the two are not comparable, or not known to be."""
    names = [side.name for side in sides]
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
    found += _other_data(sides, names)
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


def _other_data(sides: tuple[Side, Side], names: list[str]) -> list[Finding]:
    first, second = (side.facts for side in sides)
    if first is None or second is None:
        unknown = " and ".join(side.where for side in sides if side.facts is None)
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


def _called(name: str) -> str:
    """A file's name as a title: plain letters, not too many."""
    return re.sub(r"[^\w.+-]+", "_", name)[:40] or "_"


def _of_sweep(sweep: SweepFolder, where: str) -> Side:
    table = sweep_points(sweep)
    if table.empty:
        raise TableError(f"{where}: no finished run yet; testbed train {where} goes on with them")
    table = annealed_only(without_target(table, where), where)
    return Side(sweep.config.name, where, table, facts=sweep.specs[0].data, n=sweep.config.forecast.n)


def _fit(side: Side, given: Fit | None, way: Way) -> Fit:
    if side.fit is not None:
        return side.fit
    assert side.table is not None
    columns = ({"n": side.n} if side.n else {}) | way.columns
    alike = {} if given is None else {"loss": given.loss, "space": given.space, "fixed": given.fixed}
    return fit_law(
        way.law or (given.law if given is not None else "hoffmann"),
        side.table,
        columns=columns,
        delta=way.delta if given is None else given.delta,
        n_boot=way.bootstrap,
        seed=way.seed,
        where=side.where,
        **alike,  # type: ignore[arg-type]
    )
