"""Figures of how well the parameters are determined: profiles of the objective, and the resamples pair by pair."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit import Fit
from testbed.analysis.laws import Parameter
from testbed.analysis.report.style import BLUE, GREY, INK, ORANGE, SOFT, axis, brief, letter, span

Array = NDArray[np.float64]

LEVELS = (0.68, 0.9, 0.95)
FEWEST = 20  # resamples for an interval
_RISE = 8.0  # of the objective, in units of chi-square, up to which a profile is drawn
_LADDER = (0.3, 1.0, 2.0, 4.0, 8.0)  # standard errors tried to find how far a profile reaches
_POINTS = 10  # of a profile, on each side of the estimate
_ROUNDS = 4
_DRAWS = 1000  # resamples in the corner plot, at most
_BINS = 24
_SPREAD = 5.0  # ratio of the ends from which an amplitude's or a scale's axis is logarithmic
_SHOWN = (0.005, 0.995)  # quantiles of the resamples between which the corner plot's axes lie


def free_parameters(fit: Fit) -> list[Parameter]:
    """The parameters that were fitted, not held."""
    return [p for p in fit.law.parameters if p.name not in fit.fixed]


# --- profiles ---------------------------------------------------------------------------------------


def profiles(fit: Fit, level: float = 0.9) -> tuple[Any, str]:
    """The objective over values at which each parameter is held, one panel for each parameter; and the caption."""
    bounds = fit.conf_int(1 - level) if len(fit.resamples) >= FEWEST else None
    ends = {} if bounds is None else {name: [bounds["low"][name], bounds["high"][name]] for name in bounds.index}
    panels = [_profile(fit, p, ends.get(p.name, [])) for p in free_parameters(fit)]
    chart = alt.concat(*panels, columns=3, spacing=22)
    band = "" if bounds is None else f" The blue band is the {100 * level:.0f} % percentile interval of the resamples."
    zero = ", ".join(letter(name) for name in fit.at_zero)
    at_zero = f" The estimate of {zero} is 0, the edge of its domain." if zero else ""
    return chart, (
        "How much worse the fit becomes when a parameter is held at a value and the others are fitted again. Where "
        "the curve is below a dashed line the value lies in the interval of that level, if errors are independent and "
        f"identically distributed; the orange line is the estimate.{band}{at_zero}"
    )


def profile_curve(fit: Fit, p: Parameter) -> pd.DataFrame:
    """Columns value and rise on both sides of the estimate, out to where the objective has risen by about _RISE.

    A few values far apart find how far that is. From so far away a solve may miss its optimum, so a reach that turns out
    too short is extended.
    """
    step = _step(fit, p)
    coarse = fit.profile(p.name, _values(fit, p, [sign * step * k for sign in (-1, 1) for k in _LADDER]))
    reach = {sign: _reach(fit, p, coarse, sign, step) for sign in (-1, 1)}
    shares = np.linspace(0, 1, _POINTS + 1)[1:]
    for _ in range(_ROUNDS):
        curve = fit.profile(p.name, _values(fit, p, [sign * far * k for sign, far in reach.items() for k in shares]))
        near = {
            sign: np.sqrt(_RISE / max(rise, _RISE / 4))
            for sign, rise in ((-1, curve["rise"].iloc[0]), (1, curve["rise"].iloc[-1]))
            if rise < 0.6 * _RISE and reach[sign] < step * _LADDER[-1]
        }
        if not near:
            break
        reach = {sign: far * near.get(sign, 1.0) for sign, far in reach.items()}
    return curve.loc[np.flatnonzero(np.isfinite(curve["rise"]))]


def _values(fit: Fit, p: Parameter, steps: list[float]) -> Array:
    return np.unique([_moved(p, fit.theta[p.name], step) for step in (0.0, *steps)])


def _reach(fit: Fit, p: Parameter, coarse: pd.DataFrame, sign: int, step: float) -> float:
    """The step that raises the objective by _RISE, by interpolation of its root, which grows about linearly with the step."""
    rise = dict(zip(coarse["value"], coarse["rise"], strict=True))
    steps = [step * k for k in (0.0, *_LADDER)]
    roots = np.sqrt([rise[_moved(p, fit.theta[p.name], sign * far)] for far in steps])
    last = int(np.flatnonzero(roots < np.sqrt(_RISE))[-1])
    if last == len(steps) - 1:
        return steps[-1]
    share = (np.sqrt(_RISE) - roots[last]) / (roots[last + 1] - roots[last]) if np.isfinite(roots[last + 1]) else 0.5
    return float(steps[last] + share * (steps[last + 1] - steps[last]))


def _step(fit: Fit, p: Parameter) -> float:
    """A standard error from the middle of the resamples, or a tenth of the estimate; in logs where that is a factor."""
    centre = fit.theta[p.name]
    error = 0.0
    if len(fit.resamples) >= FEWEST:
        low, high = np.nanquantile(fit.bootstrap[p.name], [0.16, 0.84])
        error = float(high - low) / 2
    if _is_factor(p, centre):
        return min(error / centre, 0.5) if error > 1e-6 * centre else 0.1
    if error > 1e-6 * abs(centre):
        return error
    return 0.1 * abs(centre) or 0.1 * float(np.median(np.abs(fit.fittedvalues)))


def _is_factor(p: Parameter, centre: float) -> bool:
    return p.role in ("amplitude", "scale", "exponent") and centre > 0


def _moved(p: Parameter, centre: float, step: float) -> float:
    """The estimate moved by a step (in logs where it is a factor), and kept inside its domain."""
    if _is_factor(p, centre):
        at = centre * float(np.exp(np.clip(step, -20, 20)))
        return float(np.clip(at, 1e-3, 6.0)) if p.role == "exponent" else at
    if p.role == "real":
        return centre + step
    return float(np.clip(centre + step, 0.0, 1.0 if p.role == "fraction" else np.inf))


def _profile(fit: Fit, p: Parameter, ends: list[float]) -> Any:
    table = profile_curve(fit, p)
    low, high = float(np.min([table["value"].min(), *ends])), float(np.max([table["value"].max(), *ends]))
    log = p.role in ("amplitude", "scale") and low > 0 and high > _SPREAD * low
    x = axis("x", "value", letter(p.name), [low, high], log=log, most=4)
    y = axis("y", "rise", "rise (χ²)", [0.0, _RISE], log=False, pad=0.0)
    lines = pd.DataFrame({"rise": [NormalDist().inv_cdf((1 + at) / 2) ** 2 for at in LEVELS]})
    lines = lines.assign(value=span([low, high], log, 0.03)[1], label=[f"{100 * at:.0f} %" for at in LEVELS])
    layers = []
    if ends:
        band = pd.DataFrame({"value": ends[:1], "end": ends[1:]})
        layers.append(alt.Chart(band).mark_rect(color=SOFT, opacity=0.35).encode(x=x, x2="end:Q"))
    layers += [
        alt.Chart(lines).mark_rule(color=GREY, strokeDash=[4, 3]).encode(y=y),
        alt.Chart(lines).mark_text(align="left", dx=3, fontSize=9, color=GREY).encode(x=x, y=y, text="label:N"),
        alt.Chart(pd.DataFrame({"value": [fit.theta[p.name]]})).mark_rule(color=ORANGE, strokeWidth=1.5).encode(x=x),
        alt.Chart(table).mark_line(color=INK, strokeWidth=1.8, clip=True).encode(x=x, y=y),
    ]
    return alt.layer(*layers).properties(width=190, height=150)


# --- the resamples ----------------------------------------------------------------------------------


def corner(fit: Fit, level: float = 0.9) -> tuple[Any, str]:
    """The resamples for each pair of parameters, with a histogram of each parameter on the diagonal; and the caption."""
    parameters = free_parameters(fit)
    draws = fit.bootstrap
    finite = draws.iloc[np.flatnonzero(np.isfinite(fit.resamples).all(axis=1))]
    shown = finite.iloc[:_DRAWS]
    scales = {p.name: _scale(p, finite[p.name].to_numpy(), fit.theta[p.name]) for p in parameters}
    size = 110 if len(parameters) <= 6 else 80
    cells = []
    for row, down in enumerate(parameters):
        for column, across in enumerate(parameters):
            if column > row:
                cells.append(_blank())
            elif column == row:
                cells.append(_histogram(fit, down, finite[down.name], scales, level, row == len(parameters) - 1))
            else:
                cells.append(_pair(fit, across, down, shown, scales, (column == 0, row == len(parameters) - 1)))
    cells = [cell.properties(width=size, height=size) for cell in cells]
    chart = alt.concat(*cells, columns=len(parameters), spacing=6, align="all", bounds="flush")
    return chart, _corner_caption(fit, shown, scales, level)


def _corner_caption(fit: Fit, shown: pd.DataFrame, scales: dict[str, Any], level: float) -> str:
    inside = np.ones(len(shown), bool)
    for name, (domain, _) in scales.items():
        inside &= shown[name].between(*domain).to_numpy()
    failed = int((~fit.bootstrap["converged"]).sum())
    caption = (
        "The parameters of the resamples pair by pair; a narrow ridge means that two parameters trade off. "
        "Orange lines are the estimates, the numbers above the histograms their percentile "
        f"intervals of {100 * level:.0f} %."
    )
    if len(shown) < len(fit.resamples):
        caption += f" {len(shown):,} of {len(fit.resamples):,} resamples are drawn; the histograms count all."
    if not inside.all():
        caption += f" {int((~inside).sum())} of these lie beyond the axes."
    return caption + (f" {failed} resamples did not converge." if failed else "")


def _scale(p: Parameter, draws: Array, estimate: float) -> tuple[tuple[float, float], bool]:
    """The two ends of a parameter's axis, and whether it is logarithmic."""
    if p.role in ("amplitude", "scale"):  # those at 0, the edge of the domain, have no place on a logarithmic axis
        positive = draws[draws > 0]
        if len(positive) >= len(draws) / 2:
            low, high = (float(q) for q in np.quantile(positive, _SHOWN))
            if high > _SPREAD * low:
                low, high = (min(low, estimate), max(high, estimate)) if estimate > 0 else (low, high)
                room = (high / low) ** 0.06
                return (low / room, high * room), True
    low, high = (float(q) for q in np.quantile(draws, _SHOWN))
    low, high = min(low, estimate), max(high, estimate)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1e-3
    return (low - room, high + room), False


def _pair(
    fit: Fit, across: Parameter, down: Parameter, draws: pd.DataFrame, scales: dict[str, Any], named: tuple[bool, bool]
) -> Any:
    x, y = _axis("x", across, scales, named[1]), _axis("y", down, scales, named[0])
    lines = pd.DataFrame({across.name: [fit.theta[across.name]], down.name: [fit.theta[down.name]]})
    base = alt.Chart(lines).mark_rule(color=ORANGE, strokeWidth=0.8, clip=True)
    dots = alt.Chart(draws).mark_point(filled=True, size=5, opacity=0.35, color=BLUE, clip=True)
    return alt.layer(dots.encode(x=x, y=y), base.encode(x=x), base.encode(y=y))


def _histogram(
    fit: Fit, p: Parameter, draws: pd.Series[float], scales: dict[str, Any], level: float, named: bool
) -> Any:
    (low, high), log = scales[p.name]
    edges = np.geomspace(low, high, _BINS + 1) if log else np.linspace(low, high, _BINS + 1)
    counts, _ = np.histogram(draws, edges)
    table = pd.DataFrame({p.name: edges[:-1], "end": edges[1:], "count": counts})
    low, high = fit.interval(p.name, level)
    title = alt.TitleParams(
        f"{letter(p.name)} {brief(low)} to {brief(high)}",
        fontSize=9,
        fontWeight="normal",
        color=INK,
        offset=3,
    )
    x = _axis("x", p, scales, named)
    bars = (
        alt.Chart(table).mark_rect(color=SOFT).encode(x=x, x2="end:Q", y=alt.Y("count:Q", axis=None), y2=alt.datum(0))
    )
    line = alt.Chart(pd.DataFrame({p.name: [fit.theta[p.name]]})).mark_rule(color=ORANGE, strokeWidth=0.8, clip=True)
    return alt.layer(bars, line.encode(x=x)).properties(title=title)


def _axis(channel: Any, p: Parameter, scales: dict[str, Any], named: bool) -> Any:
    domain, log = scales[p.name]
    title = letter(p.name) if named else None
    return axis(channel, p.name, title, domain, log=log, pad=0.0, most=4, labels=named, inset=0.1)


def _blank() -> alt.Chart:
    return alt.Chart(pd.DataFrame({"x": [0]})).mark_point(opacity=0)
