"""The doubts about a fit that go with every answer from it: those that make a frontier, a cost or a figure worthless."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.fit.diagnostics.cautions import FAR
from testbed.analysis.fit.diagnostics.diagnose import at_zero, not_converged
from testbed.analysis.fit.diagnostics.differences import rows_differ
from testbed.analysis.fit.diagnostics.far_rows import far_rows
from testbed.analysis.fit.diagnostics.finding import Finding, finding
from testbed.analysis.fit.diagnostics.identification import unidentified
from testbed.analysis.fit.estimate import Estimate
from testbed.analysis.fit.prediction.domain import Domain

Array = NDArray[np.float64]


def carried(fit: Estimate) -> tuple[Finding, ...]:
    """The findings of a fit, from its document alone, that bear on every answer from it."""
    return (*not_converged(fit), *unidentified(fit), *at_zero(fit), *rows_differ(fit), *far_rows(fit, None))


def far_answer(
    fit: Estimate, what: str, n: Sequence[float] | Array, tokens: Sequence[float] | Array
) -> tuple[Finding, ...]:
    """Whether models at n, tokens [m] lie more than 1.5 decades of compute beyond the fitted runs, or at other D/N."""
    at = {"n": np.asarray(n, np.float64), "tokens": np.asarray(tokens, np.float64)}
    good = np.isfinite(at["n"]) & np.isfinite(at["tokens"]) & (at["n"] > 0) & (at["tokens"] > 0)
    if not good.any() or set(fit.law.columns) != {"n", "tokens"}:
        return ()
    at = {name: values[good] for name, values in at.items()}
    domain = Domain.of(fit.law, fit.rows.columns)
    gap, outside = float(domain.gap(at).max()), int((~domain.inside(at)).sum())
    reasons = []
    if gap > FAR:
        reasons.append(f"{gap:.1f} decades of compute beyond the largest fitted run")
    if outside and domain.ratio is not None:
        ratios = [f"{10**end:.3g}" for end in (domain.ratio.min(), domain.ratio.max())]
        own = at["tokens"] / at["n"]
        shown = f"{own.min():.3g}" if own.max() < 1.005 * own.min() else f"{own.min():.3g} to {own.max():.3g}"
        reasons.append(f"D/N of {shown}, where the fitted runs have {ratios[0]} to {ratios[1]}")
    if not reasons:
        return ()
    evidence = {"gap_decades": gap, "outside": float(outside)}
    return (
        finding("far-target", evidence, "answer", what=f"{what[0].upper()}{what[1:]}", reasons=", and ".join(reasons)),
    )


def gap_decades(fit: Estimate, n: Array, tokens: Array) -> Array:
    """Decades of compute [m] by which models at n, tokens lie beyond the largest fitted run; 0 within the data."""
    return Domain.of(fit.law, fit.rows.columns).gap({"n": n, "tokens": tokens})
