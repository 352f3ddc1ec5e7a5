"""The figure of a fitted law beyond its data, with an interval that is meant to hold there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from testbed.analysis.fit import Fit
from testbed.analysis.report.fit.plane import has_plane, optimum
from testbed.analysis.report.fit.response import dot, fitted_rows, thinned, tooltip
from testbed.analysis.report.style import BLUE, GREY, INK, ORANGE, axis, column_title
from testbed.errors import ConfigError
from testbed.units import show_count

BEYOND = 100.0  # times the largest compute (or size, or tokens) of the data: how far the figure reaches
_SCALES = ("flops", "tokens", "n")  # columns along which a law of that column alone is continued
_STEPS = 60
_PREDICTION, _LAW = "prediction", "law alone"


def can_extrapolate(fit: Fit) -> bool:
    """Whether the law can be continued beyond the data: it is one of N and D, or of a single column of scale."""
    return has_plane(fit) or (len(fit.law.columns) == 1 and fit.law.columns[0] in _SCALES)


def extrapolation(fit: Fit, level: float = 0.9, target: Mapping[str, float] | None = None) -> tuple[Any, str]:
    """The response up to two decades beyond the data, and the caption: points, law, predicted mean and interval of a run.

    A law of N and D is continued along its compute-optimal frontier, or at the D/N of the largest runs where it has no
    optimum. `target` holds a run's columns, and its response if that is known; `level` is that of the interval.

    Raises:
        ConfigError: `target` lacks a column of the law.
    """
    rows, response = fitted_rows(fit), fit.law.response
    along = "flops" if has_plane(fit) else fit.law.columns[0]
    path, way = _path(fit, rows, along)
    table = _predicted(fit, path, level)
    aim = None if target is None else _predicted(fit, _aimed(fit, target), level)
    drawn, note = thinned(rows)
    x_values = [*path[along], *(() if aim is None else aim[along])]
    title = "6ND (FLOPs)" if along not in fit.law.columns else column_title(fit, along)
    x = axis("x", along, title, x_values, log=True, pad=0.02, most=8)
    y = axis(
        "y", response, column_title(fit, response), _seen(rows, table, aim, response), log=fit.space == "log", most=8
    )
    axes = {"x": x, "y": y}
    layers = [
        _band(table, along, response, axes, f"{100 * level:.0f} % of runs"),
        *_points(fit, drawn, along, rows[along].max(), axes),
        _lines(table, along, response, axes),
        *([] if aim is None else _target(aim, response, axes)),
    ]
    caption = (
        f"{way} The band is the {100 * level:.0f} % prediction interval of a single run: uncertain parameters, misfit of the "
        "law, the noise of a run, and at least 1.5 % for each decade beyond the data, which end at the dotted line. The "
        "prediction is the law with its residuals nearby taken into account; the law alone is dashed."
    )
    notes = _untested(table) + _target_sentence(fit, aim, level) + note
    return alt.layer(*layers).properties(width=570, height=340), caption + notes


def _path(fit: Fit, rows: pd.DataFrame, along: str) -> tuple[pd.DataFrame, str]:
    """The path that the figure follows, from the smallest run to beyond the largest, and a sentence that says what it is."""
    x = np.geomspace(rows[along].min(), rows[along].max() * BEYOND, _STEPS)
    if not has_plane(fit):
        return pd.DataFrame({along: x}), "The fitted points and the law, continued beyond them."
    best = optimum(fit, x)
    if len(best) == len(x):
        return best[["flops", "n", "tokens"]], "All fitted points, and the loss along the compute-optimal frontier."
    largest = rows.nlargest(max(3, len(rows) // 20), "flops")
    ratio = float(np.median(largest["tokens"] / largest["n"]))
    n = np.sqrt(x / 6 / ratio)
    way = f"All fitted points, and the loss at {show_count(ratio)} tokens per parameter, as in the largest runs."
    return pd.DataFrame({"flops": x, "n": n, "tokens": ratio * n}), way


def _aimed(fit: Fit, target: Mapping[str, float]) -> pd.DataFrame:
    """The target as a row with the columns of the path, and its response as `observed` if it is known."""
    missing = [name for name in fit.law.columns if name not in target]
    if missing:
        raise ConfigError(f"target: no {', '.join(missing)}; {fit.law.name} needs {', '.join(fit.law.columns)}")
    row = {name: float(value) for name, value in target.items()}
    if has_plane(fit):
        row["flops"] = 6 * row["n"] * row["tokens"]
    return pd.DataFrame([row]).rename(columns={fit.law.response: "observed"})


def _predicted(fit: Fit, at: pd.DataFrame, level: float) -> pd.DataFrame:
    """The rows with columns law (the law's value), the response's name (its prediction), low and high (a run's interval)."""
    frame = fit.get_prediction(at[[*fit.law.columns]], level).summary_frame()
    found = {"low": frame["obs_ci_lower"], "high": frame["obs_ci_upper"], "in_hull": frame["in_hull"]}
    return at.assign(**{fit.law.response: frame["mean"].to_numpy()}, law=fit.predict(at), **found)


def _seen(rows: pd.DataFrame, table: pd.DataFrame, aim: pd.DataFrame | None, response: str) -> list[float]:
    """The responses that the y axis spans: all points and lines, and the band unless it is far wider than they are."""
    low, high = float(rows[response].min()), float(rows[response].max())
    reach = [
        *table["law"],
        *table[response],
        *([] if aim is None else aim.filter(["low", "high", "observed"]).to_numpy()[0]),
    ]
    least = 0.4 * min(low, *reach) if low > 0 else low - (high - low)
    return [
        low,
        high,
        *reach,
        max(float(table["low"].min()), least),
        min(float(table["high"].max()), 1.5 * max(high, *reach)),
    ]


def _band(table: pd.DataFrame, along: str, response: str, axes: dict[str, Any], name: str) -> Any:
    band = table[[along, "low", "high"]].rename(columns={"low": response}).assign(band=name)
    legend = alt.Legend(symbolType="square", symbolOpacity=0.25, symbolSize=150)
    fill = alt.Fill("band:N", title=None, scale=alt.Scale(domain=[name], range=[BLUE]), legend=legend)
    return alt.Chart(band).mark_area(opacity=0.18, clip=True).encode(**axes, y2="high:Q", fill=fill)


def _points(fit: Fit, drawn: pd.DataFrame, along: str, largest: float, axes: dict[str, Any]) -> list[Any]:
    """The fitted points, and a line where they end."""
    end = alt.Chart(pd.DataFrame({along: [largest]})).mark_rule(color=GREY, strokeDash=[2, 3])
    dots = alt.Chart(drawn).mark_point(**dot(len(drawn), 24), color=GREY)
    return [end.encode(x=axes["x"]), dots.encode(**axes, tooltip=tooltip(fit, drawn))]


def _lines(table: pd.DataFrame, along: str, response: str, axes: dict[str, Any]) -> Any:
    """The lines of law and prediction, in different colours and dashes."""
    law = table[[along, "law"]].rename(columns={"law": response}).assign(line=_LAW)
    both = pd.concat([table[[along, response]].assign(line=_PREDICTION), law])
    kinds = [_PREDICTION, _LAW]
    stroke = alt.Stroke("line:N", title=None, scale=alt.Scale(domain=kinds, range=[BLUE, INK]))
    dash = alt.StrokeDash("line:N", title=None, scale=alt.Scale(domain=kinds, range=[[1, 0], [5, 3]]))
    return alt.Chart(both).mark_line(strokeWidth=1.8, clip=True).encode(**axes, stroke=stroke, strokeDash=dash)


def _target(aim: pd.DataFrame, response: str, axes: dict[str, Any]) -> list[Any]:
    """The target's interval as a bar with its prediction, and the response that it reached, if known, as a diamond."""
    bar = aim.drop(columns=response).rename(columns={"low": response})
    layers = [
        alt.Chart(bar).mark_rule(color=ORANGE, strokeWidth=5, opacity=0.4).encode(**axes, y2="high:Q"),
        alt.Chart(aim).mark_tick(color=ORANGE, thickness=2.5, size=14, orient="horizontal").encode(**axes),
    ]
    top = aim.assign(**{response: aim["high"]}, name="target")
    text = alt.Chart(top).mark_text(baseline="bottom", dy=-4, fontSize=10, color=ORANGE)
    layers.append(text.encode(**axes, text="name:N"))
    if "observed" in aim:
        reached = aim.assign(**{response: aim["observed"]})
        diamond = alt.Chart(reached).mark_point(shape="diamond", filled=True, size=90, color=ORANGE, opacity=1)
        layers.append(diamond.encode(**axes, tooltip=[f"{response}:Q"]))
    return layers


def _untested(table: pd.DataFrame) -> str:
    """A sentence where the path leaves the range of D/N that was fitted."""
    outside = float((~table["in_hull"]).mean())
    return (
        f" Along {outside:.0%} of the path D/N is unlike that of any fitted run; such bands have not been tested there."
        if outside
        else ""
    )


def _target_sentence(fit: Fit, aim: pd.DataFrame | None, level: float) -> str:
    """The target in a sentence."""
    if aim is None:
        return ""
    row = aim.iloc[0]
    sentence = f" The orange bar is the target's {100 * level:.0f} % interval, {row['low']:.4g} to {row['high']:.4g}"
    sentence += f" around {row[fit.law.response]:.4g}"
    return sentence + (
        f"; the diamond is the value that it reached, {row['observed']:.4g}." if "observed" in aim else "."
    )
