"""A fit as a text to read, and as a JSON document and back, to the bit: every number keeps its 17 digits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from testbed.errors import TableError
from testbed.fit.intervals import LEAST_RESAMPLES
from testbed.fit.result import Fit
from testbed.fit.search import Search
from testbed.laws import LAWS, Law, find_law, plain_formula
from testbed.points import points_digest

_FORMAT = 1


def to_dict(fit: Fit, level: float) -> dict[str, Any]:
    """Everything a fit is, as JSON values; `level` is that of the intervals, which are there to be read."""
    return summary_dict(fit, level) | {
        "format": _FORMAT,
        "search": vars(fit.search),
        "data_digest": points_digest(fit.points),
        "points": {name: fit.points[name].tolist() for name in fit.points},
        "resamples": [[value if math.isfinite(value) else None for value in row] for row in fit.resamples.tolist()],
        "resamples_converged": fit.resamples_converged.tolist(),
        "versions": _versions(),
    }


def summary_dict(fit: Fit, level: float) -> dict[str, Any]:
    """What a reader asks of a fit first, as JSON values."""
    bounds = fit.conf_int(1 - level) if len(fit.resamples) >= LEAST_RESAMPLES else None
    return {
        "law": _law_name(fit.law),
        "params": fit.theta,
        "intervals": None if bounds is None else {name: [row.low, row.high] for name, row in bounds.iterrows()},
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
        "n_points": fit.nobs,
        "n_runs": fit.n_runs,
        "columns": fit.columns,
    }


def as_text(fit: Fit, level: float) -> str:
    """See `Fit.summary`."""
    bounds = fit.conf_int(1 - level)
    head = [
        f"{fit.law.name}: {plain_formula(fit.law)}  ({fit.law.source})",
        f"{fit.nobs} rows of {fit.n_runs} runs, {fit.in_words}: {fit.objective:.9g}"
        + ("" if fit.converged else "  NOT CONVERGED"),
        f"R2 {fit.rsquared:.5f}, log-likelihood {fit.llf:.2f}, AICc {fit.aicc:.2f}, BIC {fit.bic:.2f}",
        f"{'':12}{'estimate':>14}{'std err':>14}{f'{100 * level:.3g} % interval':>30}",
    ]
    rows = [
        f"{name:12}{fit.theta[name]:>14.6g}{fit.bse[name]:>14.3g}{low:>18.6g}{high:>12.6g}"
        for name, (low, high) in zip(fit.theta, bounds.to_numpy(), strict=True)
    ]
    return "\n".join([*head, *rows, *(f"{finding.code}: {finding.message}" for finding in fit.diagnostics())])


def from_dict(document: Mapping[str, Any], where: str = "the document") -> Fit:
    """The fit that `to_dict` wrote; TableError where it is none, or its points were changed."""
    found = document.get("format")
    if found != _FORMAT:
        raise TableError(
            f"{where}: no fit of this version (format {found!r}; accepted: {_FORMAT}); write one with testbed fit -o FIT.json"
        )
    try:
        fit = Fit(
            law=find_law(document["law"], f"{where}: law"),
            theta={name: float(value) for name, value in document["params"].items()},
            points=pd.DataFrame(document["points"]),
            search=Search(**document["search"]),
            resamples=np.array(document["resamples"], np.float64).reshape(-1, len(document["params"])),
            resamples_converged=np.array(document["resamples_converged"], bool),
            **{name: document[name] for name in _PLAIN},
        )
        digest = document["data_digest"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TableError(
            f"{where}: a fit's document without what belongs to it ({error!r}); write it anew with testbed fit"
        ) from None
    if points_digest(fit.points) != digest:
        raise TableError(f"{where}: the points are not those that were fitted (their digest differs); fit them anew")
    return fit


_PLAIN = ("objective", "converged", "loss", "delta", "space", "replicates", "fixed", "seed", "columns")


def _law_name(law: Law) -> str:
    return law.name if LAWS.get(law.name) is law else f"{type(law).__module__}:{type(law).__qualname__}"


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("testbed", "numpy", "scipy")}
