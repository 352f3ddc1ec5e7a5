"""The style that all figures share: colour-blind-safe colours, axes with readable ticks, titles with units."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Literal

import altair as alt
import numpy as np
from numpy.typing import ArrayLike

from testbed.points import column_named

if TYPE_CHECKING:
    from testbed.analysis.fit import Fit

INK, GREY, SOFT = "#222222", "#767676", "#9ecae1"
BLUE, ORANGE = "#08519c", "#d95f02"
RAMP = ["#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b"]
_HUES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999933"]  # Okabe and Ito

_LETTERS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eps": "ε", "eta": "η",
    "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "sigma": "σ", "tau": "τ",
}  # fmt: skip
STEPS = 7  # distinct values up to which a legend names each
_LOG_SPAN = 5.0  # ratio of the ends from which an axis of a positive column is logarithmic
_BIG = (
    "datum.value >= 1e15 ? replace(format(datum.value, '.3~e'), 'e+', 'e') : "
    "datum.value >= 1e12 ? format(datum.value / 1e12, '.3~g') + 'T' : "
    "datum.value >= 1e9 ? format(datum.value / 1e9, '.3~g') + 'B' : "
    "datum.value >= 1e6 ? format(datum.value / 1e6, '.3~g') + 'M' : "
    "datum.value >= 1e4 ? format(datum.value / 1e3, '.3~g') + 'k' : "
    "datum.value == 0 || abs(datum.value) >= 1e-3 ? format(datum.value, '.4~g') : "
    "replace(format(datum.value, '.3~e'), '-', '−')"
)


def configured(chart: alt.TopLevelMixin) -> Any:
    """The chart in the style of all figures; for a chart at the top level, not for a part of one."""
    plain = {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"}
    return chart.configure(
        font="Helvetica Neue, Helvetica, Arial, sans-serif",
        background="white",
        axis=alt.AxisConfig(gridColor="#eeeeee", domainColor="#999", tickColor="#999", **plain),
        legend=alt.LegendConfig(symbolOpacity=1, gradientOpacity=1, **plain),
        header=alt.HeaderConfig(labelFontSize=12),
        view=alt.ViewConfig(stroke=None),
    )


def in_script(charts: dict[str, Any]) -> str:
    """The charts as JSON for a page's script element: escaped, so that no text in it ends the script or opens a comment."""
    return json.dumps(charts).replace("<", "\\u003c").replace(">", "\\u003e")


def ramp(count: int) -> list[str]:
    """This many colours from light to dark blue."""
    return [RAMP[1 + round(i * (len(RAMP) - 2) / max(count - 1, 1))] for i in range(count)]


def log_x(field: str, title: str) -> alt.X:
    """A logarithmic x axis of a count, over the range of its data."""
    return alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, padding=10),
        axis=alt.Axis(labelExpr=_BIG, tickCount=5),
    )


def log_y(field: str, title: str, values: ArrayLike) -> alt.Y:
    """A logarithmic y axis of losses; values above 2.2 times the lowest are drawn at its upper end."""
    low, high = float(np.min(values)), float(np.max(values))
    return alt.Y(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", domain=[low * 0.97, min(high * 1.03, 2.2 * low)], clamp=True),
        axis=alt.Axis(format=".2~f", tickCount=8),
    )


def axis(
    channel: Literal["x", "y"],
    field: str,
    title: str | None,
    values: ArrayLike,
    *,
    log: bool,
    pad: float = 0.03,
    most: int = 6,
    inset: float = 0.0,
    labels: bool = True,
) -> Any:
    """An axis over the range of `values`, logarithmic or not, with a margin of `pad` of that range at both ends.

    It has about `most` ticks at most, none closer to an end than `inset` of the range.
    """
    low, high = span(values, log, pad)
    kind = alt.X if channel == "x" else alt.Y
    at = ticks([low, high], log, most, inset)
    return kind(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log" if log else "linear", domain=[low, high], nice=False, zero=False),
        axis=alt.Axis(
            values=at,
            labelExpr=_BIG,
            labelOverlap="greedy",
            labelSeparation=5,
            labelFlush=False,
            labels=labels,
            ticks=labels,
        ),
    )


def colour(field: str, title: str, values: Any, shown: list[float] | None = None, offset: float = 18) -> alt.Color:
    """The colours of a column: light to dark for numbers, one hue each for names.

    A few distinct numbers get a step each, more of them a gradient. Columns that fall as models grow, losses among
    them, go from dark to light, so that dark always means a larger model or a better one. `shown` are the values
    named in the legend of a gradient, `offset` its distance from the figure in pixels.
    """
    if np.asarray(values).dtype.kind not in "iuf":
        names = list(dict.fromkeys(values))
        hues = alt.Scale(domain=names, range=_HUES) if len(names) <= len(_HUES) else alt.Scale(domain=names)
        return alt.Color(f"{field}:N", title=title, scale=hues, legend=alt.Legend(labelLimit=260, symbolLimit=30))
    array = np.asarray(values, np.float64)
    distinct = np.unique(array)
    short = title.split(" (")[0]
    if len(distinct) <= STEPS:
        scale = alt.Scale(domain=distinct.tolist(), range=ramp(len(distinct)))
        return alt.Color(f"{field}:O", title=short, scale=scale, legend=alt.Legend(labelExpr=_BIG, symbolType="circle"))
    low, high = float(distinct[0]), float(distinct[-1])
    log = is_log(field, array) or (field == "loss" and low > 0)
    shades = RAMP[:0:-1] if column_named(field).falls else RAMP[1:]
    scale = alt.Scale(type="log" if log else "linear", domain=[low, high], range=shades, interpolate="lab", clamp=True)
    at = ticks(array, log, 8) if shown is None else shown
    return alt.Color(
        f"{field}:Q",
        title=short,
        scale=scale,
        legend=alt.Legend(type="gradient", values=at, labelExpr=_BIG, gradientLength=130, offset=offset),
    )


def span(values: ArrayLike, log: bool, pad: float) -> tuple[float, float]:
    """The smallest and the largest finite value, each moved out by `pad` of their range (in logs if `log`); never equal."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite) & ((finite > 0) | (not log))]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (1.0, 10.0)
    if log:
        room = pad * math.log(high / low) if high > low else 0.01
        return low * math.exp(-room), high * math.exp(room)
    room = pad * (high - low) if high > low else 1e-3 * abs(high) or 1e-12
    return low - room, high + room


def is_log(name: str, values: ArrayLike) -> bool:
    """Whether an axis of this column is drawn logarithmically: positive values over more than a factor of 5."""
    array = np.asarray(values, np.float64)
    return column_named(name).scale == "log" and array.min() > 0 and array.max() > _LOG_SPAN * array.min()


def column_title(fit: Fit, name: str) -> str:
    """The column's title with its unit; a loss or a count that the fitted table calls by a name of its own keeps that name."""
    source = fit.columns.get(name, name)
    if name == "loss" and source not in column_named("loss").names:
        return source if "loss" in source.lower() else f"loss ({source})"
    if name == "n" and any(part in source.lower() for part in ("no_embed", "non_embed")):
        return column_named("n_params_non_embedding").heading
    if name == "tokens" and source in column_named("tokens").names and source != "D" and "token" not in source.lower():
        return f"D ({source})"
    return column_named(name).heading


def letter(parameter: str) -> str:
    """A parameter's name in Greek letters: alpha_N is α_N."""
    return re.sub(r"^[a-z]+(?=_|\d|$)", lambda name: _LETTERS.get(name[0], name[0]), parameter)


def brief(value: float) -> str:
    """A number with three digits; as a power of ten where it would be long."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{float(f'{value:.3g}'):g}"
    return _short(f"{value:.3g}")


def in_powers(value: float, digits: int) -> str:
    """A number with this many digits and a power of ten: 2.9e20."""
    return _short(f"{value:.{digits - 1}e}")


def _short(text: str) -> str:
    """2.9e+20 as 2.9e20."""
    return re.sub(r"e([+-])0*", lambda sign: "e" + sign[1].strip("+"), text)


def ticks(values: ArrayLike, log: bool, most: int = 6, inset: float = 0.0) -> list[float]:
    """Round numbers for the ticks of an axis over `values`, none closer to an end than `inset` of the range."""
    low, high = span(values, log, -inset)
    return log_ticks(low, high, most) if log else _even_ticks(low, high, most)


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers for the ticks of a logarithmic axis from `low` to `high`, about `most` at most."""
    decades = math.log10(high / low)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3)):
        every = [float(f"{digit}e{k}") for k in range(first, last + 1) for digit in digits]
        inside = [tick for tick in every if low <= tick <= high]
        if min(4, most) <= len(inside) <= most and decades > 0.5:
            return inside
    if decades <= 1:
        return _even_ticks(low, high, most)
    step = math.ceil((last - first) / most)
    return [float(f"1e{k}") for k in range(first, last + 1) if k % step == 0 and low <= float(f"1e{k}") <= high]


def _even_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
    return [float(f"{k * step:.12g}") for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
