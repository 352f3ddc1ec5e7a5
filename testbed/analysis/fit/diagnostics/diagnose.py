"""Warnings about a fit, as findings that can be filtered by their code.

Each has a threshold of its own and stays silent on a clean table; `finding.SENTENCES` has what each says. Codes:

- the search: not-converged, unidentified, E-at-boundary, term-at-zero;
- the rows: outlier-sensitivity, delta-sensitivity, selection-sensitivity, under-trained, influential-run;
- the residuals: far-rows, explained-by, uneven-scatter, residual-trend, biased-at-the-largest, misfit-beyond-noise;
- the table: rows-differ, few-runs, checkpoints-as-runs, duplicates, unit, C-definition, and, with all of its
  columns, unfinished, repeated-data, mid-schedule and embedding-count;
- on request: far-target, rounded-params, isoflop-parabola (see `cautions`), law-selection and failed-before (see `compare`).

One pitfall cannot be seen in a fit: coefficients published for one objective and quoted for another, as
those of arXiv:2404.10102, which are the least-absolute-deviation optimum and not that of Huber's loss.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from testbed.analysis.fit.diagnostics.differences import difference_findings
from testbed.analysis.fit.diagnostics.far_rows import far_rows
from testbed.analysis.fit.diagnostics.finding import Finding, finding
from testbed.analysis.fit.diagnostics.identification import unidentified
from testbed.analysis.fit.diagnostics.refits import Refits
from testbed.analysis.fit.diagnostics.residuals import residual_findings
from testbed.analysis.fit.diagnostics.sensitivity import sensitivities
from testbed.analysis.fit.diagnostics.sources import source_findings
from testbed.analysis.fit.estimate import Estimate

_SMALL_SHARE = 0.05  # of the smallest response, below which a constant counts as not found
_TAIL = 0.05  # of the resamples


def diagnose(fit: Estimate, raw: pd.DataFrame | None = None) -> tuple[Finding, ...]:
    """Every warning about a fit; `raw` is the whole table it was made from, whose other columns are checked too.

    Of a larger table only 20 000 rows are refitted; the messages say so.
    """
    refits = Refits.of(fit)
    return (
        *not_converged(fit),
        *unidentified(fit),
        *at_zero(fit),
        *far_rows(fit, raw),
        *difference_findings(refits, raw),
        *sensitivities(refits),
        *residual_findings(refits),
        *source_findings(refits, raw),
    )


def not_converged(fit: Estimate) -> Iterator[Finding]:
    """A search that stopped before it was at rest."""
    if not fit.converged:
        starts, reached = float(fit.search.starts), float(fit.search.reached)
        evidence = {"objective": fit.objective, "starts": starts, "reached": reached}
        yield finding("not-converged", evidence, law=fit.law.name, objective=fit.objective)


def at_zero(fit: Estimate) -> Iterator[Finding]:
    """Constants that all but vanish, amplitudes that do, in the fit or in a resample in twenty."""
    smallest = float(fit.points[fit.law.response].min())
    drawn = dict(zip(fit.theta, fit.resamples.T, strict=True))
    for p in fit.problem.coordinates.free:
        if p.role not in ("constant", "amplitude"):
            continue
        value = fit.theta[p.name]
        vanished = float((drawn[p.name] == 0).mean()) if len(fit.resamples) else 0.0
        small = p.role == "constant" and fit.space == "log" and value < _SMALL_SHARE * smallest
        if not (value == 0 or small or vanished >= _TAIL):
            continue
        where = f"{p.name} is {value:.3g}" + ("" if value == 0 or small else " in the fit")
        where += f", and 0 in {100 * vanished:.0f} % of the resamples" if vanished >= 0.005 else ""
        evidence = {p.name: value, "share_of_resamples_at_0": vanished}
        if p.role == "constant":
            evidence |= {"smallest_response": smallest}
            yield finding("E-at-boundary", evidence, where=where, response=fit.law.response, name=p.name)
        else:
            powers = [name for name in p.falls.values() if isinstance(name, str)]
            gone = f", so that {' and '.join(powers)} mean{'s' * (len(powers) == 1)} nothing" if powers else ""
            yield finding("term-at-zero", evidence, where=where, gone=gone)
