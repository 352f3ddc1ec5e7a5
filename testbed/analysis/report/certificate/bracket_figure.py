"""The figure of the learning-rate certificate: loss against learning rate at every corner, with the fitted curves."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from testbed.analysis.certificate.certificate import Certificate
from testbed.analysis.certificate.corners import Corner
from testbed.analysis.report.style import BLUE, GREY, ORANGE
from testbed.units import show_count

_WIDTH, _HEIGHT = 230, 200
_COLUMNS = 2


def brackets(certificate: Certificate) -> Any:
    """A panel for each corner: losses above the lowest, in percent, over multiples of the rule's rate, which is marked."""
    panels = [_panel(corner) for corner in certificate.own_corners]
    return alt.concat(*panels, columns=_COLUMNS, spacing=24)


def _panel(corner: Corner) -> Any:
    points = pd.DataFrame({"factor": corner.factors, "loss": [loss or math.nan for loss in corner.losses]})
    points = points.assign(
        excess=100 * (points["loss"] / corner.lowest - 1), diverged=points["loss"].isna(), rule=points["factor"] == 1.0
    )
    top = max(float(points["excess"].max()) * 1.12, 0.5)
    points.loc[points["diverged"], "excess"] = top
    low, high = min(corner.factors) / 1.15, max(corner.factors) * 1.15
    axes = {
        "x": alt.X(
            "factor:Q",
            title="multiple of the rule's LR",
            scale=alt.Scale(type="log", domain=[low, high], nice=False),
            axis=alt.Axis(values=list(corner.factors), format=".2~f", labelOverlap="greedy"),
        ),
        "y": alt.Y(
            "excess:Q",
            title="loss above the lowest, %",
            scale=alt.Scale(domain=[min(0.0, float(points["excess"].min())) - 0.03 * top, top], nice=False),
        ),
    }
    rule = alt.Chart(pd.DataFrame({"factor": [1.0]})).mark_rule(color=ORANGE, strokeWidth=1.5).encode(x=axes["x"])
    layers: list[Any] = [*_optimum(corner, low, high, axes), rule]
    finite = points[~points["diverged"]]
    layers.append(
        alt.Chart(finite)
        .mark_point(filled=True, size=36, opacity=1, color=BLUE)
        .encode(
            **axes,
            tooltip=[alt.Tooltip("factor:Q", format=".3~g"), alt.Tooltip("loss:Q", format=".4f", title="loss")],
        )
    )
    if points["diverged"].any():
        layers.append(
            alt.Chart(points[points["diverged"]])
            .mark_point(shape="cross", angle=45, filled=True, size=60, color=GREY, opacity=1)
            .encode(**axes)
        )
    title = f"width {corner.width}, {show_count(corner.tokens)} tokens"
    return alt.layer(*layers).properties(
        width=_WIDTH, height=_HEIGHT, title=alt.TitleParams(title, fontSize=12, fontWeight="normal", anchor="start")
    )


def _optimum(corner: Corner, low: float, high: float, axes: dict[str, Any]) -> list[Any]:
    """The interval of the best multiple as a band, and the fitted curve: solid in its window, dashed beyond."""
    if corner.optimum is None or corner.curvature is None or corner.skew is None:
        return []
    ends = pd.DataFrame(
        {"factor": [max(corner.interval.low or low, low)], "end": [min(corner.interval.high or high, high)]}
    )
    band = alt.Chart(ends).mark_rect(color=BLUE, opacity=0.1).encode(x=axes["x"], x2="end:Q")
    at = np.geomspace(low, high, 120)
    away = np.log(at / corner.optimum)
    curve = 100 * np.expm1(corner.curvature * away**2 + corner.skew * away**3)
    inside = (at >= corner.window[0] * 0.999) & (at <= corner.window[1] * 1.001)
    shown = pd.DataFrame({"factor": at, "excess": curve})
    line = alt.Chart(shown[inside]).mark_line(color=BLUE, strokeWidth=1.5).encode(**axes)
    beyond = (
        alt.Chart(shown).mark_line(color=BLUE, strokeWidth=1, strokeDash=[3, 3], opacity=0.6, clip=True).encode(**axes)
    )
    return [band, beyond, line]
