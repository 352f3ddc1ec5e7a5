"""Which parameters the data determine. "Not identifiable with this design" is an answer, and often the right one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from testbed.analysis.fit.diagnostics.finding import Finding, finding
from testbed.analysis.fit.diagnostics.ladder import ladder
from testbed.analysis.fit.estimate import Estimate
from testbed.analysis.fit.intervals import percentiles, resamples_hold
from testbed.points import column_named

LEAST_DECADES = 1.0  # that a column has to span for its exponent
MOST_CONDITION = 1e3  # of the slopes, each column of length 1
LEAST_CONVERGED = 0.95  # of the resamples
MOST_RATIO = 2.0  # of the ends of an exponent's interval
_MOST_SCALE_RATIO = 10.0  # of the ends of a scale's, such as R_D*
_LEAST_REACHED = 0.2  # of the starts, that end in the best optimum where there are others
_LEVEL = 0.9
_LEAST_RESAMPLES = 20
_WORST = 1e12  # a condition number as good as infinite
_SHARE = 0.3  # of a direction that the data do not determine, from which a parameter counts as part of it


@dataclass(frozen=True)
class Doubt:
    """One reason why parameters are not identified: a phrase, the number behind it, and the parameters it concerns."""

    trigger: str
    phrase: str
    value: float
    parameters: tuple[str, ...]


def doubts(fit: Estimate) -> list[Doubt]:
    """Every reason why some parameter is not identified; none where all are."""
    return [
        *_on_a_line(fit),
        *_narrow(fit),
        *_flat(fit),
        *_unconverged(fit),
        *_wide(fit),
        *_at_edge(fit),
        *_scattered(fit),
    ]


def unidentified(fit: Estimate) -> Iterator[Finding]:
    """All doubts as one finding."""
    found = doubts(fit)
    if not found:
        return
    named = [p.name for p in fit.law.parameters if any(p.name in doubt.parameters for doubt in found)]
    reasons = "; ".join(doubt.phrase for doubt in found)
    evidence = {"parameters": ", ".join(named), "triggers": ", ".join(dict.fromkeys(d.trigger for d in found))} | {
        f"{doubt.trigger} {', '.join(doubt.parameters)}".strip(): doubt.value for doubt in found
    }
    line = ladder(fit)
    more = "runs that span more" if line is None else line.runs
    yield finding("unidentified", evidence, parameters=_listed(named), law=fit.law.name, reasons=reasons, more=more)


def condition(fit: Estimate) -> float:
    """Condition number of the response's derivatives by the solver's coordinates, scaled to length 1, without terms at 0."""
    return _decomposed(fit)[0]


def _narrow(fit: Estimate) -> Iterator[Doubt]:
    """Columns of sizes that span less than a decade, with the terms that fall along them."""
    for name in fit.law.columns:
        if not column_named(name).size or not any(name in p.falls for p in fit.law.parameters):
            continue
        values = fit.rows.columns[name]
        decades = float(np.log10(values.max() / values.min()))
        if decades < LEAST_DECADES:
            terms = [p for p in fit.law.parameters if name in p.falls]
            exponents = [power for p in terms for power in p.falls.values() if isinstance(power, str)]
            along = [p.falls[name] for p in terms if isinstance(p.falls[name], str)]
            names = _free(fit, [p.name for p in terms], along or exponents)
            if names:
                yield Doubt("range", f"{name} spans only {decades:.2g} decades", decades, names)


def _on_a_line(fit: Estimate) -> Iterator[Doubt]:
    """N and D that rise together, so that neither's effect shows."""
    line = ladder(fit)
    if line is not None:
        terms = [p for p in fit.law.parameters if {"n", "tokens"} & set(p.falls)]
        exponents = [power for p in terms for power in p.falls.values() if isinstance(power, str)]
        names = _free(fit, [p.name for p in terms], exponents) or _free(fit, list(fit.theta))
        yield Doubt("line", f"{line.words}, so their effects cannot be told apart", line.slope, names)


def _flat(fit: Estimate) -> Iterator[Doubt]:
    """A direction in which the response hardly changes."""
    value, direction = _decomposed(fit)
    if value > MOST_CONDITION:
        names = tuple(name for name, part in direction.items() if part > _SHARE)
        yield Doubt("condition", f"their effects are all but the same (condition number {value:.3g})", value, names)


def _unconverged(fit: Estimate) -> Iterator[Doubt]:
    if len(fit.resamples) >= _LEAST_RESAMPLES:
        share = float(fit.resamples_converged.mean())
        if share < LEAST_CONVERGED:
            names = _free(fit, list(fit.theta))
            yield Doubt("resamples", f"the fit converged in only {100 * share:.0f} % of the resamples", share, names)


def _wide(fit: Estimate) -> Iterator[Doubt]:
    if len(fit.resamples) < _LEAST_RESAMPLES:
        return
    ends = percentiles(fit, _LEVEL)
    for p in fit.problem.coordinates.free:
        most = {"exponent": MOST_RATIO, "scale": _MOST_SCALE_RATIO}.get(p.role)
        low, high = (float(ends[end][p.name]) for end in ("low", "high"))
        if most is not None and high > most * low:
            interval = f"the {100 * _LEVEL:.0f} % interval of" if resamples_hold(fit) else "in most resamples"
            phrase = f"{interval} {p.name} is {low:.3g} to {high:.3g}"
            yield Doubt("interval", phrase, min(high / max(low, 1e-300), 1e300), (p.name,))


def _at_edge(fit: Estimate) -> Iterator[Doubt]:
    """Exponents and fractions at the end of their domain; terms that are 0 have a finding of their own."""
    roles = {p.name: p.role for p in fit.law.parameters}
    for name in fit.problem.coordinates.at_edge(fit.phi):
        if roles[name] not in ("amplitude", "constant"):
            phrase = f"{name} ended at the edge of its domain, {fit.theta[name]:.4g}"
            yield Doubt("edge", phrase, fit.theta[name], (name,))


def _scattered(fit: Estimate) -> Iterator[Doubt]:
    search = fit.search
    if search.optima > 1 and search.reached <= _LEAST_REACHED * search.starts:
        phrase = f"{search.starts} searches ended in {search.optima} optima, {search.reached} of them in the best"
        yield Doubt("optima", phrase, float(search.optima), _free(fit, list(fit.theta)))


def _decomposed(fit: Estimate) -> tuple[float, dict[str, float]]:
    """The condition number, and by how much each free parameter takes part in the least determined direction."""
    coordinates = fit.problem.coordinates
    at_zero = set(fit.at_zero)
    gone = at_zero | {
        power for p in fit.law.parameters if p.name in at_zero for power in p.falls.values() if isinstance(power, str)
    }
    kept = [k for k, p in enumerate(coordinates.free) if p.name not in gone]
    slopes = coordinates.slopes(fit.phi[None], fit.problem.columns)[0][kept]
    size = np.sqrt((slopes**2).sum(axis=1, keepdims=True))
    if not kept or not np.isfinite(size).all() or (size == 0).any():
        flat = {coordinates.free[k].name: 1.0 for k, s in zip(kept, size[:, 0], strict=True) if not s > 0}
        return (_WORST, flat) if flat else (1.0, {})
    gram = (slopes / size) @ (slopes / size).T
    values, vectors = np.linalg.eigh(gram)
    ratio = float(np.sqrt(values[-1] / max(values[0], _WORST**-2)))
    return ratio, {coordinates.free[k].name: abs(float(v)) for k, v in zip(kept, vectors[:, 0], strict=True)}


def _free(fit: Estimate, *names: list[str] | list[str | float]) -> tuple[str, ...]:
    """The names that are not held at a value, each once."""
    flat = dict.fromkeys(str(name) for group in names for name in group)
    return tuple(name for name in flat if name not in fit.fixed)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
