"""Figures of a fitted law with its points: the response against each column, whole loss curves, and residuals."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit import Fit
from testbed.analysis.report.law_line import law_line
from testbed.analysis.report.style import BLUE, GREY, INK, ORANGE, STEPS, axis, colour, column_title, is_log, ticks
from testbed.errors import ConfigError

Array = NDArray[np.float64]

DRAWN = 2000  # points in a figure, at most
_MANY = 500  # points from which dots would hide a line
_CURVES = 8  # runs whose whole loss curves are drawn, at most
_WIDTH, _HEIGHT = 320, 250
_LEVELS = 6
_FINE = 160
_SMOOTHED = 40  # rows from which the residuals' running median is drawn


def fitted_rows(fit: Fit) -> pd.DataFrame:
    """The fitted rows: the law's columns, its response, and columns fitted and residual; flops = 6 N D for laws of N and D.

    Residuals are in percent of the fitted response where the law was fitted in logs, else in the response's units.
    """
    rows = pd.DataFrame(fit.rows.columns)
    observed = np.exp(fit.rows.y) if fit.space == "log" else fit.rows.y
    residual = 100 * np.expm1(fit.resid) if fit.space == "log" else fit.resid
    rows = rows.assign(**{fit.law.response: observed}, fitted=fit.fittedvalues, residual=residual)
    return rows.assign(flops=6 * rows["n"] * rows["tokens"]) if {"n", "tokens"} <= set(rows) else rows


def thinned(rows: pd.DataFrame, most: int = DRAWN) -> tuple[pd.DataFrame, str]:
    """At most `most` of the rows, chosen at random, and a sentence that says so where some are left out."""
    if len(rows) <= most:
        return rows, ""
    kept = np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))
    return rows.iloc[kept], f" Of {len(rows):,} points {most:,} are drawn, chosen at random."


def residual_title(fit: Fit) -> str:
    """The title of an axis of residuals, with their unit."""
    return (
        "observed / fitted - 1 (%)"
        if fit.space == "log"
        else f"observed - fitted {column_title(fit, fit.law.response)}"
    )


def tooltip(fit: Fit, rows: pd.DataFrame) -> list[Any]:
    """The tooltip of a point: its columns, its observed and fitted response, and its residual."""
    observed = "observed" if "observed" in rows else fit.law.response
    names = [name for name in (*fit.law.columns, observed, "fitted") if name in rows]
    shown = [name if rows[name].dtype.kind == "O" else alt.Tooltip(f"{name}:Q", format=".5~g") for name in names]
    return [*shown, alt.Tooltip("residual:Q", format="+.3~g", title=residual_title(fit))]


def dot(count: int, size: float) -> dict[str, Any]:
    """The mark of a point: smaller and fainter where there are very many."""
    many = count > _MANY
    return {"filled": True, "size": size / 3 if many else size, "opacity": 0.45 if many else 0.85}


def over_many(rows: pd.DataFrame, lines: Any, dots: Any) -> list[Any]:
    """The layers in order: dots over lines, or lines over dots where there are so many that they would hide the lines."""
    return [dots, lines] if len(rows) > _MANY else [lines, dots]


# --- residuals --------------------------------------------------------------------------------------


def residuals(fit: Fit, colour_by: str | None = None) -> tuple[Any, str]:
    """Residuals against compute for a law of N and D, else against each of its columns; and the caption.

    Raises:
        ConfigError: `colour_by` is not a column of the fitted rows.
    """
    rows, note = thinned(fitted_rows(fit))
    against = ["flops"] if "flops" in rows else [name for name in fit.law.columns if name not in ("run", "lr_at_step")]
    if colour_by is not None and colour_by not in rows:
        raise ConfigError(f"colour_by: found {colour_by!r}; accepted: {', '.join(map(str, rows))}")
    by = colour_by or _colouring(rows, [*against, fit.law.response])
    panels = [_residual_panel(fit, rows, name, by) for name in against]
    chart = alt.concat(*panels, columns=2, spacing=28) if len(panels) > 1 else panels[0]
    smooth = " The orange line is the running median: where it leaves zero the law is biased." if _smooth(rows) else ""
    share = f"{np.sqrt(np.mean(fit.resid**2)):.2%} rms" if fit.space == "log" else f"{np.std(fit.resid):.3g} rms"
    return chart, f"What the law leaves unexplained ({share}), one dot for each fitted point.{smooth}{note}"


def _residual_panel(fit: Fit, rows: pd.DataFrame, name: str, by: str | None) -> Any:
    title = "6ND (FLOPs)" if name == "flops" and name not in fit.law.columns else column_title(fit, name)
    x = axis("x", name, title, rows[name], log=is_log(name, rows[name]))
    y = axis("y", "residual", residual_title(fit), [*rows["residual"], 0.0], log=False, pad=0.08)
    layers = [
        alt.Chart(pd.DataFrame({"residual": [0.0]})).mark_rule(color=GREY, strokeDash=[3, 3]).encode(y=y),
        alt.Chart(rows)
        .mark_point(**dot(len(rows), 28))
        .encode(
            x=x,
            y=y,
            color=alt.value(BLUE) if by is None else colour(by, column_title(fit, by), rows[by]),
            tooltip=tooltip(fit, rows),
        ),
    ]
    if _smooth(rows):
        layers.append(alt.Chart(_running_median(rows, name)).mark_line(color=ORANGE, strokeWidth=2).encode(x=x, y=y))
    return alt.layer(*layers).properties(width=_WIDTH + 100 if name == "flops" else _WIDTH, height=_HEIGHT - 30)


def _colouring(rows: pd.DataFrame, against: list[str]) -> str | None:
    """A column to colour by, one that is nowhere else in the figure: N if possible, and names only if they are few."""
    free = [name for name in ("n", "run", *rows) if name in rows and name not in (*against, "fitted", "residual")]
    return next((name for name in free if rows[name].dtype.kind in "iuf" or rows[name].nunique() <= _CURVES), None)


def _smooth(rows: pd.DataFrame) -> bool:
    return len(rows) >= _SMOOTHED


def _running_median(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The median of the residuals in a window of a fifth of the points, moving along a column."""
    ordered = rows[[name, "residual"]].sort_values(name)
    window = max(len(rows) // 5, 15)
    smooth = ordered.rolling(window, center=True, min_periods=window).median().dropna()
    return smooth.groupby(name, as_index=False).median().iloc[:: max(1, len(smooth) // 60)]


# --- the response -----------------------------------------------------------------------------------


def response(fit: Fit, level: float = 0.9) -> tuple[Any, str]:
    """The response against each column of the law, with the law's curves; and the caption.

    `level` is that of the band around the curve of a law of one column.
    """
    if "run" in fit.law.columns:
        return _curves(fit)
    rows = fitted_rows(fit)
    names = list(fit.law.columns)
    if len(names) == 1:
        chart, caption = _one_column(fit, rows, names[0], level)
    elif len(names) == 2:
        panels = [_two_columns(fit, rows, name, other) for name, other in (names, names[::-1])]
        chart = alt.hconcat(*panels, spacing=30).resolve_scale(color="independent")
        caption = "The fitted points and the law, each curve at one value of the other column."
    else:
        chart = alt.concat(*(_adjusted(fit, rows, name) for name in names), columns=2, spacing=28)
        caption = (
            "The law along each column, the others at their medians. The points were moved along the law to those "
            "medians, so that each one's distance from the curve is its residual."
        )
    return chart, caption + thinned(rows)[1]


def _one_column(fit: Fit, rows: pd.DataFrame, name: str, level: float) -> tuple[Any, str]:
    line = law_line(fit, {name: _along(rows[name], name)})
    axes = _axes(fit, rows, name, fit.law.response)
    layers, caption = [], "The fitted points and the law."
    if len(fit.resamples) > 1:
        low, high = np.quantile(fit.predict_resamples(line[[name]]), [(1 - level) / 2, (1 + level) / 2], axis=0)
        band = alt.Chart(line.assign(**{fit.law.response: low}, high=high)).mark_area(
            color=BLUE, opacity=0.18, clip=True
        )
        layers.append(band.encode(**axes, y2="high:Q"))
        caption += f" The band is the {100 * level:.0f} % interval of the law's curve; single runs scatter more widely."
    drawn = thinned(rows)[0]
    curve = alt.Chart(line).mark_line(color=BLUE, strokeWidth=2, clip=True).encode(**axes)
    dots = alt.Chart(drawn).mark_point(**dot(len(drawn), 36), color=INK)
    layers += over_many(drawn, curve, dots.encode(**axes, tooltip=tooltip(fit, drawn)))
    return alt.layer(*layers).properties(width=_WIDTH + 140, height=_HEIGHT + 30), caption


def _two_columns(fit: Fit, rows: pd.DataFrame, name: str, other: str) -> Any:
    """One panel: points coloured by the other column, and curves at some of its values."""
    few = rows[other].nunique() <= STEPS
    levels = sorted(rows[other].unique()) if few else ticks(rows[other], is_log(other, rows[other]), _LEVELS)
    x = _along(rows[name], name)
    curves = pd.concat([law_line(fit, {name: x, other: level}) for level in levels])
    axes = _axes(fit, rows, name, fit.law.response)
    shade = colour(other, column_title(fit, other), rows[other], list(levels))
    lines = alt.Chart(curves).mark_line(strokeWidth=1.6, clip=True).encode(**axes, color=shade, detail=other)
    drawn = thinned(rows)[0]
    dots = alt.Chart(drawn).mark_point(**dot(len(drawn), 28))
    dots = dots.encode(**axes, color=shade, tooltip=tooltip(fit, drawn))
    return alt.layer(*over_many(drawn, lines, dots)).properties(width=_WIDTH, height=_HEIGHT)


def _adjusted(fit: Fit, rows: pd.DataFrame, name: str) -> Any:
    """One panel: the law at the other columns' medians, and the points moved along the law to them."""
    middle = {other: float(np.median(rows[other])) for other in fit.law.columns}
    line = law_line(fit, {**middle, name: _along(rows[name], name)})
    shown = thinned(rows.assign(resid=fit.resid))[0]
    there = fit.predict(shown[[*fit.law.columns]].assign(**{k: v for k, v in middle.items() if k != name}))
    moved = there * np.exp(shown["resid"]) if fit.space == "log" else there + shown["resid"]
    observed = shown[fit.law.response]
    shown = shown.drop(columns="resid").assign(**{"observed": observed, fit.law.response: moved})
    axes = _axes(fit, shown, name, fit.law.response)
    curve = alt.Chart(line).mark_line(color=BLUE, strokeWidth=2, clip=True).encode(**axes)
    dots = alt.Chart(shown).mark_point(**dot(len(shown), 24), color=INK)
    dots = dots.encode(**axes, tooltip=tooltip(fit, shown))
    return alt.layer(*over_many(shown, curve, dots)).properties(width=_WIDTH, height=_HEIGHT - 40)


def _curves(fit: Fit) -> tuple[Any, str]:
    """Whole loss curves: the logged losses of some runs, and the law's losses for their learning-rate schedules."""
    rows = fitted_rows(fit)
    runs = list(dict.fromkeys(rows["run"]))
    some = [runs[i] for i in np.unique(np.linspace(0, len(runs) - 1, min(_CURVES, len(runs))).round().astype(int))]
    picked, note = thinned(rows[rows["run"].isin(some)].sort_values(["run", "step"]), 2 * DRAWN)
    axes = _axes(fit, picked, "step", fit.law.response)
    shade = colour("run", "run", picked["run"])
    dots = alt.Chart(picked).mark_point(filled=True, size=10, opacity=0.45)
    lines = alt.Chart(picked.assign(**{fit.law.response: picked["fitted"]})).mark_line(strokeWidth=1.6, clip=True)
    chart = alt.layer(
        dots.encode(**axes, color=shade, tooltip=["run:N", *tooltip(fit, picked)[1:]]),
        lines.encode(**axes, color=shade, detail="run:N"),
    )
    which = f"{len(some)} of the {len(runs)} runs" if len(some) < len(runs) else "The runs"
    caption = f"{which}: dots are logged losses, lines are the law's losses for each learning-rate schedule.{note}"
    return chart.properties(width=_WIDTH + 200, height=_HEIGHT + 50), caption


def _axes(fit: Fit, rows: pd.DataFrame, name: str, response: str) -> dict[str, Any]:
    return {
        "x": axis("x", name, column_title(fit, name), rows[name], log=is_log(name, rows[name])),
        "y": axis("y", response, column_title(fit, response), rows[response], log=fit.space == "log", pad=0.06),
    }


def _along(values: pd.Series[float], name: str) -> Array:
    """Values from the smallest to the largest, evenly spaced on the axis of this column."""
    spaced = np.geomspace if is_log(name, values) else np.linspace
    return np.asarray(spaced(values.min(), values.max(), _FINE))
