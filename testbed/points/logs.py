"""Logs of training in which rows of training and rows of evaluation alternate, as transformers' Trainer writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from testbed.errors import TableError
from testbed.points.finder import Finder
from testbed.points.numbers import to_floats


@dataclass(frozen=True)
class EvaluationRows:
    """The rows that are kept, and what was left out; "" for nothing."""

    rows: pd.DataFrame
    note: str = ""


def evaluation_rows(
    table: pd.DataFrame, wanted: tuple[str, ...], given: Mapping[str, str | None], where: str
) -> EvaluationRows:
    """The table without rows that hold a training loss and no evaluation, where a loss is `wanted` and others hold one.

    A row without any loss stays: it is a mistake that reading it tells.
    """
    if "loss" not in wanted or not len(table):
        return EvaluationRows(table)
    finder = Finder(table, {name: source for name, source in given.items() if source is not None}, where)
    try:
        source = finder.find("loss")
    except TableError:
        return EvaluationRows(table)
    if source is None or source not in table.columns or list(table.columns).count(source) > 1:
        return EvaluationRows(table)
    missing = table[source].isna().to_numpy()
    if not missing.any() or missing.all():
        return EvaluationRows(table)
    others = [
        each.source for each in Finder(table, {}, where).candidates("loss") if each.source != source and not each.doubt
    ]
    training = [name for name in others if pd.notna(to_floats(table[name], counts=False)[missing]).any()]
    logged = table[training].notna().any(axis=1).to_numpy() & missing if training else missing & False
    if not logged.any():
        return EvaluationRows(table)
    held = " or ".join(training[:2])
    note = f"{int(logged.sum())} of {len(table)} rows hold {held} and no {source}: left out, as rows of training"
    return EvaluationRows(table[~logged], note)
