"""The figures of a study, each one altair specification: interactive on the page, SVG and PNG beside it.

They read the points table, the fits, the forecast and the verdict; nothing of the training wing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from testbed.analysis.fit import Fit
from testbed.analysis.forecast import follows_from_n_and_tokens, measured_columns
from testbed.analysis.report.law_line import law_line
from testbed.analysis.report.style import BLUE, ORANGE, SOFT, log_x, log_y, ramp
from testbed.records import Forecast, Verdict
from testbed.units import show_count

_WIDTH, _HEIGHT = 320, 270
_FULL_WIDTH = 740
_TARGET = ORANGE
_LAW_DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]
_LOSS = "loss (nats/token)"
_BUDGETS = 5  # slices of the IsoFLOP figure
_DIAMOND: dict[str, Any] = {
    "shape": "diamond", "filled": True, "color": _TARGET, "stroke": "white", "strokeWidth": 0.7, "opacity": 1
}  # fmt: skip


def loss_curves(points: pd.DataFrame) -> alt.LayerChart:
    """Every run's loss against tokens: trunks as lines, cooldown branches leaving them, annealed ends as dots."""
    labelled = _labelled(points)
    stable = labelled[labelled["phase"] == "stable"]
    base = {"x": log_x("tokens", "tokens"), "y": log_y("loss", _LOSS, labelled["loss"])}
    colour = _size_colour(labelled)
    trunks = alt.Chart(stable).mark_line(strokeWidth=1, opacity=0.7).encode(**base, color=colour, detail="run:N")
    cooled = (
        alt.Chart(_branches(labelled))
        .mark_line(strokeWidth=1, opacity=0.7, strokeDash=[3, 2])
        .encode(**base, color=colour, detail=["run:N", "horizon:N"])
    )
    ends = (
        alt.Chart(labelled[labelled["phase"] == "annealed"])
        .mark_point(filled=True, size=26, opacity=1)
        .encode(**base, color=colour, tooltip=_tooltip())
    )
    return (trunks + cooled + ends).properties(width=_FULL_WIDTH, height=_HEIGHT)


def loss_against(
    points: pd.DataFrame, fits: Mapping[str, Fit], along: str, n_column: str, forecast: Forecast | None
) -> Any:
    """Annealed losses against N (`along` "n", a curve for each D) or D ("tokens", a curve for each N), with the laws.

    `n_column` is the column that counts as N. Laws of further columns have no curve here.
    """
    annealed = points[points["phase"] == "annealed"].assign(n=lambda t: t[n_column])
    other = "tokens" if along == "n" else "n"
    title = {"n": f"N ({n_column.removeprefix('n_params_').replace('_', '-')} parameters)", "tokens": "D (tokens)"}
    annealed = annealed.assign(group=annealed[other].map(show_count))
    grid, observed = (annealed[annealed["role"] == role] for role in ("grid", "target"))
    values, highest, target = sorted(grid[other].unique()), annealed[along].max(), set()
    if forecast is not None:
        at = _target_at(forecast, n_column)
        target = {at[other]}
        values, highest = sorted({*values, *observed[other], *target}), max(highest, at[along])
    order = [show_count(value) for value in values]
    colours = [_TARGET if v in target else c for v, c in zip(values, ramp(len(values)), strict=True)]
    colour = alt.Color(
        "group:N", sort=order, scale=alt.Scale(domain=order, range=colours), title=title[other].split(" (")[0]
    )
    x = np.geomspace(annealed[along].min() * 0.9, highest * 1.1, 60)
    lines = [
        law_line(fit, {along: x, other: value})[[along, "loss"]].assign(group=show_count(value), law=name)
        for name, fit in _drawable(fits).items()
        for value in values
    ]
    axes = {"x": log_x(along, title[along]), "y": log_y("loss", _LOSS, annealed["loss"])}
    layers: list[Any] = [
        *_law_lines(lines, list(fits), axes, colour, "group:N", opacity=0.9),
        alt.Chart(grid).mark_point(filled=True, size=34, opacity=0.85).encode(**axes, color=colour, tooltip=_tooltip()),
    ]
    if forecast is not None:
        layers.append(_forecast_bar(forecast, n_column, along, axes))
    if len(observed):
        layers.append(alt.Chart(observed).mark_point(size=70, **_DIAMOND).encode(**axes, tooltip=_tooltip()))
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)


def isoflop(points: pd.DataFrame, fits: Mapping[str, Fit], n_column: str, flops_column: str = "flops_6nd") -> Any:
    """Loss against N at fixed compute (6ND): the fitted laws' slices and their lowest points, with the grid's points."""
    annealed = _annealed_grid(points, n_column)
    budgets = np.geomspace(annealed[flops_column].min() * 2, annealed[flops_column].max(), _BUDGETS)
    nearest = np.abs(np.log(annealed[flops_column].to_numpy()[:, None] / budgets[None])).argmin(axis=1)
    order = [show_count(c, 2) for c in budgets]
    annealed = annealed.assign(slice=[order[i] for i in nearest])
    lines, lows = [], []
    n = np.geomspace(annealed["n"].min() / 1.5, annealed["n"].max() * 2, 60)
    for name, fit in _drawable(fits).items():
        for label, flops in zip(order, budgets, strict=True):
            line = law_line(fit, {"n": n, "tokens": flops / (6 * n)})[["n", "loss"]].assign(slice=label, law=name)
            lines.append(line[line["loss"] <= line["loss"].min() * 1.25])
            low = int(line["loss"].argmin())
            if 0 < low < len(line) - 1:
                lows.append(line.iloc[[low]])
    colour = alt.Color("slice:N", sort=order, scale=alt.Scale(domain=order, range=ramp(_BUDGETS)), title="6ND FLOPs")
    losses = pd.concat([*(line["loss"] for line in lines), annealed["loss"]])
    axes = {"x": log_x("n", "N"), "y": log_y("loss", _LOSS, losses)}
    layers = [
        *_law_lines(lines, list(fits), axes, colour, "slice:N"),
        alt.Chart(annealed)
        .mark_point(filled=True, size=22, opacity=0.6)
        .encode(**axes, color=colour, tooltip=_tooltip()),
    ]
    if lows:
        layers.append(
            alt.Chart(pd.concat(lows)).mark_point(shape="cross", size=50, opacity=1).encode(**axes, color=colour)
        )
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)


def residuals(points: pd.DataFrame, fits: Mapping[str, Fit], n_column: str) -> Any:
    """Observed over fitted loss of every run, in percent, against compute; one panel a law."""
    annealed = _annealed_grid(points, n_column)
    frames = []
    for name, fit in fits.items():
        residual = 100 * (annealed["loss"] / fit.predict(annealed[[*measured_columns(fit.law)]]) - 1)
        frames.append(annealed.assign(law=name, residual=residual))
    table = _labelled(pd.concat(frames))
    dots = (
        alt.Chart()
        .mark_point(filled=True, size=30, opacity=0.8)
        .encode(
            x=log_x("flops", "training FLOPs"),
            y=alt.Y("residual:Q", title="observed / fitted - 1 (%)"),
            color=_size_colour(table),
            tooltip=[*_tooltip(), alt.Tooltip("residual:Q", format="+.2f")],
        )
    )
    zero = alt.Chart().mark_rule(color="#888", strokeDash=[3, 3]).encode(y=alt.datum(0))
    panels = alt.layer(zero, dots, data=table).properties(width=_WIDTH, height=_HEIGHT - 80)
    return panels.facet(column=alt.Column("law:N", title=None, sort=list(fits)))


def verdict_strip(forecast: Forecast, verdict: Verdict | None) -> Any:
    """The sealed interval, the prediction of each law and baseline, and the loss that the target reached."""
    rows = [{"what": "sealed forecast", "loss": forecast.predicted}]
    rows += [{"what": f"{law.law} alone", "loss": law.predicted} for law in (*forecast.laws, *forecast.beside)]
    rows += [{"what": name, "loss": loss} for name, loss in forecast.baselines.items()]
    order = [row["what"] for row in rows]
    y = alt.Y("what:N", sort=order, title=None, axis=alt.Axis(labelLimit=200))
    x = alt.X("loss:Q", title=_LOSS, scale=alt.Scale(zero=False, padding=12))
    interval = pd.DataFrame(
        [{"what": "sealed forecast", "loss": forecast.interval.low, "high": forecast.interval.high}]
    )
    layers = [
        alt.Chart(interval).mark_bar(height=14, color=SOFT, opacity=0.8).encode(y=y, x=x, x2="high:Q"),
        alt.Chart(pd.DataFrame(rows)).mark_tick(thickness=3, size=18, color=BLUE).encode(y=y, x=x),
    ]
    if verdict is not None:
        observed = pd.DataFrame({"loss": [verdict.observed]})
        seeds = pd.DataFrame({"loss": list(verdict.observed_runs.values()), "what": "sealed forecast"})
        layers += [
            alt.Chart(observed).mark_rule(color=_TARGET, strokeWidth=1.5).encode(x=x),
            alt.Chart(seeds).mark_point(size=60, **_DIAMOND).encode(x=x, y=y),
        ]
    return alt.layer(*layers).properties(width=_FULL_WIDTH, height=26 * len(order))


def _drawable(fits: Mapping[str, Fit]) -> dict[str, Fit]:
    """The fits whose law is a curve in these figures: N and D decide it."""
    return {name: fit for name, fit in fits.items() if follows_from_n_and_tokens(fit.law)}


def _law_lines(
    lines: list[pd.DataFrame], laws: list[str], axes: dict[str, Any], colour: Any, group: str, **mark: float
) -> list[Any]:
    """The laws' curves as a layer, each law in dashes of its own; no layer where there are no curves."""
    if not lines:
        return []
    dashes = alt.Scale(domain=laws, range=_LAW_DASHES[: len(laws)])
    dash = alt.StrokeDash("law:N", sort=laws, scale=dashes, title="law")
    chart = alt.Chart(pd.concat(lines)).mark_line(strokeWidth=1.3, **mark)
    return [chart.encode(**axes, color=colour, strokeDash=dash, detail=group)]


def _forecast_bar(forecast: Forecast, n_column: str, along: str, axes: dict[str, Any]) -> Any:
    at = _target_at(forecast, n_column)[along]
    row = {along: at, "loss": forecast.interval.low, "high": forecast.interval.high}
    return (
        alt.Chart(pd.DataFrame([row]))
        .mark_rule(color=_TARGET, strokeWidth=5, opacity=0.35)
        .encode(x=axes["x"], y=axes["y"], y2="high:Q")
    )


def _target_at(forecast: Forecast, n_column: str) -> dict[str, float]:
    return {"n": getattr(forecast.target, n_column), "tokens": forecast.target.tokens}


def _annealed_grid(points: pd.DataFrame, n_column: str) -> pd.DataFrame:
    grid = points[(points["phase"] == "annealed") & (points["role"] == "grid")]
    return grid.assign(n=grid[n_column])


def _branches(points: pd.DataFrame) -> pd.DataFrame:
    """Rows of every cooldown, each beginning with the trunk's loss at its branch point."""
    cooled = points[points["phase"] != "stable"]
    starts = cooled[["run", "horizon", "branch_step"]].drop_duplicates()
    trunk = points[points["phase"] == "stable"].drop(columns=["horizon", "branch_step"])
    joined = starts.merge(trunk, left_on=["run", "branch_step"], right_on=["run", "step"])
    return pd.concat([joined, cooled]).sort_values(["run", "horizon", "step"])


def _labelled(points: pd.DataFrame) -> pd.DataFrame:
    return points.assign(size=points["n_params_non_embedding"].map(show_count))


def _size_colour(labelled: pd.DataFrame) -> alt.Color:
    """The colours of the sizes: light to dark, the target's orange."""
    sizes = sorted(labelled["n_params_non_embedding"].unique())
    targets = set(labelled[labelled["role"] == "target"]["n_params_non_embedding"])
    colours = [_TARGET if n in targets else c for n, c in zip(sizes, ramp(len(sizes)), strict=True)]
    order = [show_count(n) for n in sizes]
    return alt.Color("size:N", sort=order, scale=alt.Scale(domain=order, range=colours), title="N (non-embedding)")


def _tooltip() -> list[Any]:
    return [
        "run:N",
        alt.Tooltip("n_params_non_embedding:Q", format=",", title="N non-embedding"),
        alt.Tooltip("tokens:Q", format=","),
        alt.Tooltip("loss:Q", format=".4f"),
    ]
