"""One law among those compared: its fit, what it predicts of larger runs, or why it is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit.diagnostics.identification import doubts
from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.heldout.rolling import Cut, k_fold, kappa, predict_held_out, scores
from testbed.analysis.fit.result import Fit
from testbed.analysis.laws import Law
from testbed.errors import TestbedError

Array = NDArray[np.float64]

_FATAL = ("condition", "resamples", "edge")  # doubts about the curve too, not only about what its parameters mean
RUNS_PER_PARAMETER = 4  # that a law larger than the default needs


@dataclass(frozen=True)
class Candidate:
    """A law, its fit or why it has none, why it is dropped if it is, its held-out rows by cut, and its target."""

    law: Law
    fit: Fit | None = None
    reason: str = ""
    held_out: Mapping[int, pd.DataFrame] = field(default_factory=dict)
    failures: Mapping[int, str] = field(default_factory=dict)
    predicted: float = np.nan

    @property
    def name(self) -> str:
        """The name of the law."""
        return self.law.name

    @property
    def size(self) -> int:
        """How many parameters are free."""
        held = 0 if self.fit is None else len(self.fit.fixed)
        return len(self.law.parameters) - held

    @property
    def survives(self) -> bool:
        """Whether it may be recommended."""
        return self.fit is not None and not self.reason

    def errors(self, cuts: int, level: float) -> Array:
        """Mean absolute error of the plain law at each cut; nan where it could not be fitted."""
        return np.array(
            [scores(self.held_out[k], level)["error"] if k in self.held_out else np.nan for k in range(cuts)]
        )


def fit_candidate(law: Law, data: pd.DataFrame | Mapping[str, Any], options: Mapping[str, Any]) -> Candidate:
    """The law fitted to the table, or the reason why it cannot be: the law may be anyone's and raise anything."""
    try:
        fit = fit_law(law, data, **options)
    except Exception as error:
        return Candidate(law, reason=f"cannot be fitted: {_first_clause(error)}")
    return Candidate(law, fit)


def checked(candidate: Candidate, default: Candidate) -> Candidate:
    """The candidate with the reason why it is dropped, where this table does not determine its parameters."""
    fit = candidate.fit
    if fit is None:
        return candidate
    reasons = [doubt.phrase for doubt in doubts(fit) if doubt.trigger in _FATAL]
    if candidate.size > default.size and candidate.size * RUNS_PER_PARAMETER > fit.n_runs:
        reasons.append(f"{candidate.size} parameters for {fit.n_runs} runs")
    return replace(candidate, reason=f"not identified by this table: {'; '.join(reasons)}" if reasons else "")


def tested(candidate: Candidate, cuts: Sequence[Cut], level: float, unit: str) -> Candidate:
    """The candidate with its predictions beyond each cut."""
    if candidate.fit is None:
        return candidate
    held_out, failures = {}, {}
    for number, cut in enumerate(cuts):
        try:
            rows = predict_held_out(candidate.fit, cut, level, unit)
        except Exception as error:
            failures[number] = _first_clause(error)
            continue
        if np.isfinite(rows.to_numpy()).all():
            held_out[number] = rows
        else:
            failures[number] = "it predicts no finite number there"
    return replace(candidate, held_out=held_out, failures=failures)


def at_target(candidate: Candidate, target: Mapping[str, float] | None) -> Candidate:
    """The candidate with the plain law's response at the target."""
    if candidate.fit is None or target is None:
        return candidate
    try:
        predicted = float(candidate.fit.predict(target)[0])
    except Exception as error:
        return replace(candidate, reason=candidate.reason or f"cannot predict the target: {_first_clause(error)}")
    return replace(candidate, predicted=predicted)


def row_of(candidate: Candidate, default: Candidate, cuts: int, level: float, seed: int) -> dict[str, Any]:
    """The candidate's row of the comparison (see `LawComparison`)."""
    fit, base = candidate.fit, default.fit
    row: dict[str, Any] = {"law": candidate.name, "parameters": candidate.size}
    blank = dict.fromkeys(
        ("delta_aicc", "delta_bic", "k_fold", "rolling", "worst_cut", "wins", "score", "kappa", "predicted"), np.nan
    )
    if fit is None or base is None:
        return row | blank | {"verdict": "not fitted"}
    errors, beaten = candidate.errors(cuts, level), default.errors(cuts, level)
    held_out = list(candidate.held_out.values())
    by_cut = {
        "rolling": float(np.nanmean(errors)),
        "worst_cut": float(np.nanmax(errors)),
        "wins": float((errors < beaten).sum()),
        "score": float(np.mean([scores(rows, level)["score"] for rows in held_out])),
        "kappa": kappa(held_out, level),
    } if held_out else {}  # fmt: skip
    return row | blank | {
        "delta_aicc": _apart(fit.aicc, base.aicc),
        "delta_bic": fit.bic - base.bic,
        "k_fold": k_fold(fit, seed),
        **by_cut,
        "predicted": candidate.predicted,
        "verdict": "dropped" if candidate.reason else "",
    }  # fmt: skip


def cut_rows(candidate: Candidate, cuts: Sequence[Cut], level: float) -> list[dict[str, Any]]:
    """One row a cut: law, cut (decades of what orders the rows), fitted, runs, held_out, the scores, and failure."""
    if candidate.fit is None:
        return []
    rows = []
    for number, cut in enumerate(cuts):
        found = candidate.held_out.get(number)
        blank = dict.fromkeys(("error", "kriged_error", "score"), np.nan)
        rows.append(
            {
                "law": candidate.name,
                "cut": cut.at,
                "fitted": int(cut.fitted.sum()),
                "runs": int(candidate.fit.points["run"][cut.fitted].nunique()),
                "held_out": int(cut.held_out.sum()),
                **(blank if found is None else scores(found, level)),
                "failure": candidate.failures.get(number, ""),
            }
        )
    return rows


def _first_clause(error: Exception) -> str:
    """A message up to its first semicolon, without lists of columns; an error not of this package with its class."""
    text = str(error).split("; ")[0]
    return text if isinstance(error, TestbedError) else f"{type(error).__name__}: {text}"


def _apart(value: float, base: float) -> float:
    """Value - base; 0 where both are the same infinity (the AICc of too many parameters)."""
    return 0.0 if value == base else value - base
