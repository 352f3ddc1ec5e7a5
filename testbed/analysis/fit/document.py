"""A fit as a text to read, and as a JSON document and back, to the bit: every number keeps its 17 digits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from testbed.analysis.fit.diagnostics.diagnose import diagnose
from testbed.analysis.fit.estimate import Estimate
from testbed.analysis.fit.intervals import LEAST_RESAMPLES, intervals
from testbed.analysis.fit.problem import Loss
from testbed.analysis.fit.resampling import Replicates
from testbed.analysis.fit.search import Search
from testbed.analysis.fit.targets import above_zero
from testbed.analysis.laws import LAWS, Law, find_law, plain_formula
from testbed.errors import TableError
from testbed.points import canonical, fit_columns, points_digest
from testbed.version import versions

_FORMAT = 1


def to_dict(fit: Estimate, level: float) -> dict[str, Any]:
    """The whole fit as JSON values; `level` is that of the intervals, which are for readers only."""
    return summary_dict(fit, level) | {
        "format": _FORMAT,
        "search": vars(fit.search),
        "data_digest": points_digest(fit.points),
        "points": {name: fit.points[name].tolist() for name in fit.points},
        "resamples": [[value if math.isfinite(value) else None for value in row] for row in fit.resamples.tolist()],
        "resamples_converged": fit.resamples_converged.tolist(),
        "settings": None if fit.settings is None else fit.settings.tolist(),
        "versions": versions("numpy", "scipy"),
    }


def summary_dict(fit: Estimate, level: float) -> dict[str, Any]:
    """Law, parameters, intervals, objective, options and counts of a fit as JSON values."""
    bounds = intervals(fit, level, "percentile") if len(fit.resamples) >= LEAST_RESAMPLES else None
    return {
        "law": _law_name(fit.law),
        "params": fit.theta,
        "intervals": None if bounds is None else ends(bounds),
        "level": level,
        "objective": fit.objective,
        "loss": fit.loss,
        "delta": fit.delta,
        "space": fit.space,
        "replicates": fit.replicates,
        "fixed": fit.fixed,
        "seed": fit.seed,
        "converged": fit.converged,
        "at_zero": list(fit.at_zero),
        "at_bound": list(fit.at_bound),
        "differs": list(fit.differs),
        "n_points": fit.nobs,
        "n_runs": fit.n_runs,
        "columns": fit.columns,
    }


def ends(bounds: pd.DataFrame) -> dict[str, list[float | None]]:
    """Low and high of each parameter as JSON values: None where an end is infinite or not known."""
    return {
        str(name): [float(end) if math.isfinite(end) else None for end in (row.low, row.high)]
        for name, row in bounds.iterrows()
    }


def as_text(fit: Estimate, level: float) -> str:
    """The fit as text: law, table, objective, criteria, and the parameters with their errors (see `Fit.summary`)."""
    bounds = intervals(fit, level, "percentile")
    head = [
        f"{fit.law.name}: {plain_formula(fit.law)}  ({fit.law.source})",
        f"{fit.nobs} rows of {fit.n_runs} runs, {fit.in_words}: {fit.objective:.9g}"
        + ("" if fit.converged else "  NOT CONVERGED")
        + (f"  AT ITS BOUND: {', '.join(fit.at_bound)}" if fit.at_bound else ""),
        f"R2 {fit.rsquared:.5f}, log-likelihood {fit.llf:.2f}, AICc {fit.aicc:.2f}, BIC {fit.bic:.2f}",
        f"{'':12}{'estimate':>14}{'std err':>14}{f'{100 * level:.3g} % interval':>30}",
    ]
    rows = [
        f"{name:12}{fit.theta[name]:>14.6g}{fit.bse[name]:>14.3g}{low:>18.6g}{high:>12.6g}"
        for name, (low, high) in zip(fit.theta, bounds.to_numpy(), strict=True)
    ]
    return "\n".join([*head, *rows, *(f"{finding.code}: {finding.message}" for finding in diagnose(fit))])


def read(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of the estimate that `to_dict` wrote; TableError where it is none, or its points were changed."""
    from testbed.records import problem, too_new  # the models of all records, which a fit of a table does not need

    found = document.get("format")
    if newer := too_new(found, _FORMAT):
        raise TableError(f"{where}: {newer}")
    if found != _FORMAT:
        raise TableError(
            f"{where}: no fit (format {str(found)[:40]!r}; accepted: {_FORMAT}); write one with testbed fit -o FIT.json"
        )
    try:
        fields = _Document.model_validate(document)
    except ValidationError as error:
        raise TableError(
            f"{where}: a fit's document that is incomplete or changed ({problem(error)}); write it again with testbed fit"
        ) from None
    law = find_law(fields.law, f"{where}: law")
    names = {name: canonical(name, (*law.columns, law.response)) for name in fields.points}  # "lr" in older documents
    points = _points(fields, law, names, where)
    if points_digest(points.rename(columns={new: old for old, new in names.items()})) != fields.data_digest:
        raise TableError(f"{where}: the points are not those that were fitted (their digest differs); fit them again")
    resamples = np.array(fields.resamples, np.float64).reshape(-1, len(fields.params))
    return {name: getattr(fields, name) for name in _PLAIN} | {
        "law": law,
        "theta": fields.params,
        "points": points,
        "columns": {names.get(name, name): source for name, source in fields.columns.items()},
        "search": Search(**fields.search.model_dump()),
        "resamples": resamples,
        "resamples_converged": np.array(fields.resamples_converged, bool),
        "differs": tuple(fields.differs),
        "settings": None if fields.settings is None else np.array(fields.settings, np.intp),
    }


_PLAIN = ("objective", "converged", "loss", "delta", "space", "replicates", "fixed", "seed", "columns")


class _Search(BaseModel):
    starts: int = Field(ge=0)
    reached: int = Field(ge=0)
    optima: int = Field(ge=0)


class _Document(BaseModel):
    """The fields of a document that are read back; those for readers only are ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    law: str = Field(max_length=300)
    params: dict[str, float]
    objective: float = Field(ge=0)
    converged: bool
    loss: Loss
    delta: float = Field(gt=0)
    space: Literal["log", "linear"]
    replicates: Replicates
    fixed: dict[str, float]
    seed: int = Field(ge=0, lt=2**63)
    columns: dict[str, str]
    search: _Search
    points: dict[str, list[float] | list[str]]
    resamples: list[list[float | None]]
    resamples_converged: list[bool]
    data_digest: str
    differs: list[str] = []
    settings: list[int] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(len(row) != len(self.params) for row in self.resamples):
            raise ValueError("a resample has other parameters than the fit")
        if len(self.resamples) != len(self.resamples_converged):
            raise ValueError("there are not as many resamples as resamples_converged")
        if self.settings is not None and any(len(self.settings) != len(each) for each in self.points.values()):
            raise ValueError("there are not as many settings as points")
        if not self.fixed.keys() <= self.params.keys():
            raise ValueError("fixed parameters are among params")
        return self


def _points(read: _Document, law: Law, names: Mapping[str, str], where: str) -> pd.DataFrame:
    """The fitted points by the `names` of their columns; TableError where no fit of this law can have been made of them."""
    needed = {*law.columns, law.response, "run"}
    lengths = {len(values) for values in read.points.values()}
    if not needed <= set(names.values()) or len(lengths) != 1 or 0 in lengths:
        raise TableError(f"{where}: the points of {law.name} are columns {', '.join(sorted(needed))} of one length")
    if set(read.params) != {p.name for p in law.parameters}:
        raise TableError(f"{where}: {law.name} has the parameters {', '.join(p.name for p in law.parameters)}")
    below = [p.name for p in law.parameters if p.role != "real" and read.params[p.name] < 0]
    if below:
        raise TableError(f"{where}: params.{below[0]} is {read.params[below[0]]:g}; accepted: at least 0")
    columns = {new: old for old, new in names.items()}
    return fit_columns(pd.DataFrame(read.points), columns, where, above_zero(law, read.space))[list(columns)]


def _law_name(law: Law) -> str:
    return law.name if LAWS.get(law.name) is law else f"{type(law).__module__}:{type(law).__qualname__}"
