"""The figures of a study, each one altair specification: interactive on the page, SVG and PNG beside it.

They read the points table, the fits, the forecast and the verdict; nothing of the training wing.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from testbed.analysis.fit import Fit
from testbed.analysis.report.style import BLUE, ORANGE, SOFT, log_x, ramp
from testbed.records import Forecast, Verdict
from testbed.units import show_count

_WIDTH, _HEIGHT = 320, 270
_FULL_WIDTH = 740
_TARGET = ORANGE
_LAW_DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]
_LOSS = "loss (nats/token)"


def loss_curves(points: pd.DataFrame) -> alt.LayerChart:
    """Every run's loss against tokens: trunks as lines, cooldown branches leaving them, annealed ends as dots."""
    labelled = _labelled(points)
    stable = labelled[labelled["phase"] == "stable"]
    branches = _branches(labelled)
    order, colours = _sizes(labelled)
    base = {"x": log_x("tokens", "tokens"), "y": _loss_axis(labelled["loss"])}
    colour = alt.Color("size:N", sort=order, scale=alt.Scale(domain=order, range=colours), title="N (non-embedding)")
    trunks = alt.Chart(stable).mark_line(strokeWidth=1, opacity=0.7).encode(**base, color=colour, detail="run:N")
    cooled = (
        alt.Chart(branches)
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
    points: pd.DataFrame, fits: dict[str, Fit], along: str, n_column: str, forecast: Forecast | None
) -> Any:
    """Annealed losses against N (one curve a D) or against D (one curve an N), with the fitted laws."""
    annealed = points[(points["phase"] == "annealed")].assign(n=lambda t: t[n_column])
    other = "tokens" if along == "n" else "n"
    title = {"n": f"N ({n_column.removeprefix('n_params_').replace('_', '-')} parameters)", "tokens": "D (tokens)"}
    annealed = annealed.assign(group=annealed[other].map(show_count))
    values = sorted(annealed[annealed["role"] == "grid"][other].unique())
    if forecast is not None:
        values = sorted({*values, *annealed[annealed["role"] == "target"][other], _at(forecast, n_column)[other]})
    order = [show_count(v) for v in values]
    target_values = {_at(forecast, n_column)[other]} if forecast is not None else set()
    colours = [_TARGET if v in target_values else c for v, c in zip(values, ramp(len(values)), strict=True)]
    colour = alt.Color(
        "group:N", sort=order, scale=alt.Scale(domain=order, range=colours), title=title[other].split(" (")[0]
    )
    lines = _law_lines(annealed, fits, along, other, values, forecast, n_column)
    axes = {"x": log_x(along, title[along]), "y": _loss_axis(annealed["loss"])}
    layers: list[Any] = [
        alt.Chart(lines)
        .mark_line(strokeWidth=1.3, opacity=0.9)
        .encode(**axes, color=colour, strokeDash=_dash(list(fits)), detail="group:N"),
        alt.Chart(annealed[annealed["role"] == "grid"])
        .mark_point(filled=True, size=34, opacity=0.85)
        .encode(**axes, color=colour, tooltip=_tooltip()),
    ]
    if forecast is not None:
        layers.append(_forecast_bar(forecast, n_column, along, axes))
    observed = annealed[annealed["role"] == "target"]
    if len(observed):
        layers.append(
            alt.Chart(observed)
            .mark_point(
                shape="diamond", filled=True, size=70, color=_TARGET, stroke="white", strokeWidth=0.7, opacity=1
            )
            .encode(**axes, tooltip=_tooltip())
        )
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)


def isoflop(points: pd.DataFrame, fits: dict[str, Fit], n_column: str, flops_column: str = "flops_6nd") -> Any:
    """Loss against N at fixed compute (6ND): the fitted laws' slices and their lowest points, with the grid's points."""
    annealed = points[(points["phase"] == "annealed") & (points["role"] == "grid")].assign(n=lambda t: t[n_column])
    budgets = np.geomspace(annealed[flops_column].min() * 2, annealed[flops_column].max(), 5)
    nearest = np.abs(np.log(annealed[flops_column].to_numpy()[:, None] / budgets[None])).argmin(axis=1)
    order = [show_count(c, 2) for c in budgets]
    annealed = annealed.assign(slice=[order[i] for i in nearest])
    lines, lows = [], []
    sizes = np.geomspace(annealed["n"].min() / 1.5, annealed["n"].max() * 2, 60)
    for name, fit in fits.items():
        for label, flops in zip(order, budgets, strict=True):
            losses = fit.predict(n=sizes, tokens=flops / (6 * sizes))
            near = losses <= losses.min() * 1.25
            lines.append(pd.DataFrame({"n": sizes[near], "loss": losses[near], "slice": label, "law": name}))
            low = int(losses.argmin())
            if 0 < low < len(sizes) - 1:
                lows.append({"n": sizes[low], "loss": losses[low], "slice": label, "law": name})
    colour = alt.Color("slice:N", sort=order, scale=alt.Scale(domain=order, range=ramp(5)), title="6ND FLOPs")
    curves = pd.concat(lines)
    axes = {"x": log_x("n", "N"), "y": _loss_axis(pd.concat([curves["loss"], annealed["loss"]]))}
    layers = [
        alt.Chart(curves)
        .mark_line(strokeWidth=1.3)
        .encode(**axes, color=colour, strokeDash=_dash(list(fits)), detail="slice:N"),
        alt.Chart(annealed)
        .mark_point(filled=True, size=22, opacity=0.6)
        .encode(**axes, color=colour, tooltip=_tooltip()),
    ]
    if lows:
        layers.append(
            alt.Chart(pd.DataFrame(lows)).mark_point(shape="cross", size=50, opacity=1).encode(**axes, color=colour)
        )
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)


def residuals(points: pd.DataFrame, fits: dict[str, Fit], n_column: str) -> Any:
    """Observed over fitted loss of every run, in percent, against compute; one panel a law."""
    annealed = points[(points["phase"] == "annealed") & (points["role"] == "grid")].assign(n=lambda t: t[n_column])
    frames = []
    for name, fit in fits.items():
        fitted = fit.predict(n=annealed["n"].to_numpy(), tokens=annealed["tokens"].to_numpy())
        frames.append(annealed.assign(law=name, residual=100 * (annealed["loss"] / fitted - 1)))
    table = _labelled(pd.concat(frames))
    order, colours = _sizes(table)
    dots = (
        alt.Chart()
        .mark_point(filled=True, size=30, opacity=0.8)
        .encode(
            x=log_x("flops", "training FLOPs"),
            y=alt.Y("residual:Q", title="observed / fitted - 1 (%)"),
            color=alt.Color(
                "size:N", sort=order, scale=alt.Scale(domain=order, range=colours), title="N (non-embedding)"
            ),
            tooltip=[*_tooltip(), alt.Tooltip("residual:Q", format="+.2f")],
        )
    )
    zero = alt.Chart().mark_rule(color="#888", strokeDash=[3, 3]).encode(y=alt.datum(0))
    panels = alt.layer(zero, dots, data=table).properties(width=_WIDTH, height=_HEIGHT - 80)
    return panels.facet(column=alt.Column("law:N", title=None, sort=list(fits)))


def verdict_strip(forecast: Forecast, verdict: Verdict | None) -> Any:
    """The sealed interval, what each law and baseline said, and what the target reached."""
    rows = [{"what": "sealed forecast", "loss": forecast.predicted}]
    rows += [{"what": f"{law.law} alone", "loss": law.predicted} for law in (*forecast.laws, *forecast.beside)]
    rows += [{"what": name, "loss": loss} for name, loss in forecast.baselines.items()]
    order = [row["what"] for row in rows]
    y = alt.Y("what:N", sort=order, title=None, axis=alt.Axis(labelLimit=200))
    scale = alt.Scale(zero=False, padding=12)
    x = alt.X("loss:Q", title=_LOSS, scale=scale)
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
            alt.Chart(seeds)
            .mark_point(
                shape="diamond", filled=True, color=_TARGET, size=60, opacity=1, stroke="white", strokeWidth=0.7
            )
            .encode(x=x, y=y),
        ]
    return alt.layer(*layers).properties(width=_FULL_WIDTH, height=26 * len(order))


def _law_lines(
    annealed: pd.DataFrame,
    fits: dict[str, Fit],
    along: str,
    other: str,
    values: list[float],
    forecast: Forecast | None,
    n_column: str,
) -> pd.DataFrame:
    high = annealed[along].max()
    if forecast is not None:
        high = max(high, _at(forecast, n_column)[along])
    grid = np.geomspace(annealed[along].min() * 0.9, high * 1.1, 60)
    frames = []
    for name, fit in fits.items():
        for value in values:
            losses = fit.predict(**{along: grid, other: np.full_like(grid, value)})
            frames.append(pd.DataFrame({along: grid, "loss": losses, "group": show_count(value), "law": name}))
    return pd.concat(frames)


def _forecast_bar(forecast: Forecast, n_column: str, along: str, axes: dict[str, Any]) -> Any:
    row = {along: _at(forecast, n_column)[along], "loss": forecast.interval.low, "high": forecast.interval.high}
    return (
        alt.Chart(pd.DataFrame([row]))
        .mark_rule(color=_TARGET, strokeWidth=5, opacity=0.35)
        .encode(x=axes["x"], y=axes["y"], y2="high:Q")
    )


def _at(forecast: Forecast, n_column: str) -> dict[str, float]:
    return {"n": getattr(forecast.target, n_column), "tokens": forecast.target.tokens}


def _branches(points: pd.DataFrame) -> pd.DataFrame:
    """Rows of every cooldown, each beginning with the trunk's loss at its branch point."""
    cooled = points[points["phase"] != "stable"]
    starts = cooled[["run", "horizon", "branch_step"]].drop_duplicates()
    trunk = points[points["phase"] == "stable"].drop(columns=["horizon", "branch_step"])
    joined = starts.merge(trunk, left_on=["run", "branch_step"], right_on=["run", "step"])
    return pd.concat([joined, cooled]).sort_values(["run", "horizon", "step"])


def _labelled(points: pd.DataFrame) -> pd.DataFrame:
    return points.assign(size=points["n_params_non_embedding"].map(show_count))


def _sizes(points: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Labels of the sizes in order, and their colours: light to dark, the target's orange."""
    sizes = sorted(points["n_params_non_embedding"].unique())
    targets = set(points[points["role"] == "target"]["n_params_non_embedding"])
    colours = [_TARGET if n in targets else c for n, c in zip(sizes, ramp(len(sizes)), strict=True)]
    return [show_count(n) for n in sizes], colours


def _dash(laws: list[str]) -> Any:
    return alt.StrokeDash("law:N", sort=laws, scale=alt.Scale(domain=laws, range=_LAW_DASHES[: len(laws)]), title="law")


def _loss_axis(losses: pd.Series[float]) -> alt.Y:
    low, high = float(losses.min()), float(losses.max())
    domain = [low * 0.97, min(high * 1.03, 2.2 * low)]
    return alt.Y(
        "loss:Q",
        title=_LOSS,
        scale=alt.Scale(type="log", domain=domain, clamp=True),
        axis=alt.Axis(format=".2~f", tickCount=8),
    )


def _tooltip() -> list[Any]:
    return [
        "run:N",
        alt.Tooltip("n_params_non_embedding:Q", format=",", title="N non-embedding"),
        alt.Tooltip("tokens:Q", format=","),
        alt.Tooltip("loss:Q", format=".4f"),
    ]
