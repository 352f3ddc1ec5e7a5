"""Figures of a fitted law of N and D as a surface: contours of equal loss, slices of equal compute, and the frontier."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit import Fit
from testbed.analysis.fit.diagnostics.ladder import ladder
from testbed.analysis.fit.frontier import best_sizes
from testbed.analysis.report.fit.response import dot, fitted_rows, over_many, thinned, tooltip
from testbed.analysis.report.law_line import law_line
from testbed.analysis.report.style import GREY, INK, axis, colour, column_title, in_powers, log_ticks, ramp, span

Array = NDArray[np.float64]

_SIZE = 470  # pixels a side of the plane
_ROOM = 38  # pixels at the right for the contours' losses
_CONTOURS = 8
_BUDGETS = 6
_NEAR = (0.02, 0.08, 0.2)  # decades of compute within which points belong to a slice; the first that suffices
_APART = 0.25  # decades between slices
_KIND = "line"
_OPTIMAL, _EQUAL_COMPUTE = "compute-optimal", "equal compute"


def has_plane(fit: Fit) -> bool:
    """Whether the law is one of the loss by N and D alone, as the figures here need."""
    return set(fit.law.columns) == {"n", "tokens"} and fit.law.response == "loss"


def optimum(fit: Fit, flops: Array) -> pd.DataFrame:
    """The frontier for budgets `flops`, with columns flops, n, tokens and loss; budgets without an optimum are left out.

    There is none for a ladder, whose rows lie on one line of N and D.
    """
    if ladder(fit) is not None:
        return pd.DataFrame({name: np.empty(0) for name in ("flops", "n", "tokens", "loss")})
    thetas = np.repeat([list(fit.theta.values())], len(flops), axis=0)
    n, tokens, loss = best_sizes(fit, thetas, flops)
    return pd.DataFrame({"flops": flops, "n": n, "tokens": tokens, "loss": loss}).dropna()


# --- contours ---------------------------------------------------------------------------------------


def contours(fit: Fit) -> tuple[Any, str]:
    """D over N with contours of the law's loss, the fitted points, the frontier and lines of equal compute; and the caption."""
    rows, note = thinned(fitted_rows(fit))
    n, tokens = span(rows["n"], True, 0.06), span(rows["tokens"], True, 0.06)
    best = _inside(optimum(fit, np.geomspace(6 * n[0] * tokens[0], 6 * n[1] * tokens[1], 200)), n, tokens)
    lines = _contours(fit, n, tokens)
    ends = lines.groupby("loss", sort=False).tail(1).assign(label=lambda t: t["loss"].map("{:g}".format))
    x = axis("x", "n", column_title(fit, "n"), n, log=True, pad=0.0)
    y = axis("y", "tokens", column_title(fit, "tokens"), tokens, log=True, pad=0.0)
    shade = colour("loss", column_title(fit, "loss"), rows["loss"], offset=_ROOM)
    # Layers with scales of their own: the legend of points and lines together would not be a gradient.
    drawn = alt.Chart(lines).mark_line(strokeWidth=1.6, clip=True)
    dots = alt.Chart(rows).mark_point(**dot(len(rows), 40), stroke="white", strokeWidth=0.5)
    layers = [
        alt.layer(*_compute_lines(n, tokens, x, y)),
        *over_many(
            rows,
            drawn.encode(x=x, y=y, color=shade.legend(None), detail="loss:N"),
            dots.encode(x=x, y=y, color=shade, tooltip=tooltip(fit, rows)),
        ),
    ]
    if len(best) > 1:
        frontier = alt.Chart(best.assign(**{_KIND: _OPTIMAL})).mark_line(clip=True, strokeWidth=2)
        layers[0] += frontier.encode(x=x, y=y, **_line_kinds())
    layers.append(alt.layer(*_loss_labels(ends, tokens, x, y)))
    caption = (
        "Contours of equal loss under the law (the number at a contour's end is its loss), and the fitted points in the "
        "colour of the loss they reached: a point darker than the contours around it did better than the law says."
    )
    optimal = (
        " The black line joins the best N and D for each compute."
        if len(best) > 1
        else " The law has no compute-optimal N and D here."
    )
    chart = alt.layer(*layers).resolve_scale(color="independent").properties(width=_SIZE, height=_SIZE)
    return chart, caption + optimal + note


def _contours(fit: Fit, n: tuple[float, float], tokens: tuple[float, float]) -> pd.DataFrame:
    """The contours, with columns loss, n and tokens: for each ratio D/N the scale at which the law reaches each level.

    Along a constant ratio the loss always falls with scale; along N or D alone it need not.
    """
    centre = np.linspace(np.log(tokens[0] / n[1]), np.log(tokens[1] / n[0]), 161)  # logs of D/N
    scale = np.linspace(np.log(n[0] * tokens[0]), np.log(n[1] * tokens[1]), 241)  # logs of N D
    log_n, log_tokens = (scale - centre[:, None]) / 2, (scale + centre[:, None]) / 2
    loss = fit.predict(n=np.exp(log_n.ravel()), tokens=np.exp(log_tokens.ravel())).reshape(log_n.shape)
    falling = np.minimum.accumulate(loss, axis=1)
    frames = []
    for level in _levels(loss[len(centre) // 2]):
        at = np.array([np.interp(-level, -row, scale, left=np.nan, right=np.nan) for row in falling])
        line = pd.DataFrame({"loss": level, "n": np.exp((at - centre) / 2), "tokens": np.exp((at + centre) / 2)})
        frames.append(_inside(line.iloc[::-1], n, tokens))
    return pd.concat(frames)


def _levels(losses: Array) -> list[float]:
    """Round losses for the contours, about equally far apart in log compute."""
    falling = np.minimum.accumulate(losses)
    wanted = falling[np.linspace(0, len(falling) - 1, _CONTOURS + 2).round().astype(int)[1:-1]]
    rough = float(np.ptp(wanted)) / 4
    for step in rough * 10.0 ** -np.arange(0.0, 3.0, 0.15):
        digits = max(0, -int(np.floor(np.log10(step))))
        unit = next(u for u in (5.0, 2.0, 1.0) if u * 10.0**-digits <= step * (1 + 1e-9)) * 10.0**-digits
        levels = {round(float(np.round(value / unit) * unit), digits + 1) for value in wanted}
        if len(levels) == _CONTOURS:
            break
    return sorted(levels, reverse=True)


def _compute_lines(n: tuple[float, float], tokens: tuple[float, float], x: Any, y: Any) -> list[Any]:
    """Dashed lines of equal 6ND, each with its FLOPs written along its left end."""
    budgets = log_ticks(6 * n[0] * tokens[0], 6 * n[1] * tokens[1], 6)
    rows = []
    for budget in budgets:
        left, right = max(n[0], budget / 6 / tokens[1]), min(n[1], budget / 6 / tokens[0])
        if np.log(right / left) > 0.15 * np.log(n[1] / n[0]):
            rows += [{"flops": budget, "n": at, "tokens": budget / 6 / at} for at in (left, right)]
    table = pd.DataFrame(rows).assign(**{_KIND: _EQUAL_COMPUTE})
    starts = table.iloc[::2].assign(label=lambda t: t["flops"].map(lambda c: f"{in_powers(c, 1)} FLOPs"))
    along = np.degrees(np.arctan(np.log(n[1] / n[0]) / np.log(tokens[1] / tokens[0])))  # the lines' fall on the page
    lines = alt.Chart(table).mark_line(clip=True, strokeWidth=1)
    text = alt.Chart(starts).mark_text(
        align="left", angle=float(along), baseline="bottom", dx=12, dy=-2, fontSize=9, color=GREY
    )
    return [
        lines.encode(x=x, y=y, detail="flops:N", **_line_kinds()),
        text.encode(x=x, y=y, text="label:N"),
    ]


def _loss_labels(ends: pd.DataFrame, tokens: tuple[float, float], x: Any, y: Any) -> list[Any]:
    """The losses of the contours at their right ends, or above them where they leave the plane below."""
    below = np.log(ends["tokens"] / tokens[0]) < 0.02 * np.log(tokens[1] / tokens[0])
    layers = []
    for part, dy in ((ends[~below], 0), (ends[below], -8)):
        for halo in ({"stroke": "white", "strokeWidth": 3}, {}):
            text = alt.Chart(part).mark_text(align="left", dx=5, dy=dy, fontSize=10, color=INK, **halo)
            layers.append(text.encode(x=x, y=y, text="label:N"))
    return layers


def _line_kinds() -> dict[str, Any]:
    kinds = [_OPTIMAL, _EQUAL_COMPUTE]
    return {
        "stroke": alt.Stroke(
            f"{_KIND}:N",
            title=None,
            scale=alt.Scale(domain=kinds, range=[INK, "#a0a0a0"]),
            legend=alt.Legend(offset=_ROOM),
        ),
        "strokeDash": alt.StrokeDash(f"{_KIND}:N", title=None, scale=alt.Scale(domain=kinds, range=[[1, 0], [4, 3]])),
    }


def _inside(table: pd.DataFrame, n: tuple[float, float], tokens: tuple[float, float]) -> pd.DataFrame:
    return table[table["n"].between(*n) & table["tokens"].between(*tokens)]


# --- slices of equal compute ------------------------------------------------------------------------


def slices(fit: Fit) -> tuple[Any, str]:
    """Loss over N at several budgets: the law's slices with their minima, and the points near each budget; and the caption."""
    rows = fitted_rows(fit).assign(resid=fit.resid)
    budgets, near = budgets_of(rows["flops"].to_numpy())
    order = [in_powers(c, 2) for c in budgets]
    points, curves = [], []
    for label, budget in zip(order, budgets, strict=True):
        here = rows[np.abs(np.log10(rows["flops"] / budget)) <= near]
        at_budget = fit.predict(n=here["n"].to_numpy(), tokens=budget / (6 * here["n"].to_numpy()))
        moved = at_budget * np.exp(here["resid"]) if fit.space == "log" else at_budget + here["resid"]
        points.append(here.assign(slice=label, observed=here["loss"], loss=moved))
        curves.append(_slice(fit, budget, here, rows).assign(slice=label))
    table, note = thinned(pd.concat(points).drop(columns="resid"))
    curve = pd.concat(curves)
    lows = optimum(fit, budgets).merge(pd.DataFrame({"flops": budgets, "slice": order}))
    lows = lows[lows["n"].between(curve["n"].min(), curve["n"].max())]
    chart = _draw_slices(fit, table, curve, lows, order)
    how = f"within a factor {10**near:.2g} of it, moved along the law to it" if near > _NEAR[0] else "at it"
    caption = (
        f"Loss against N at a fixed compute 6ND: the law's curve, its lowest point (cross), and the fitted points {how}, "
        "so that a dot's distance from its curve is its residual."
    )
    return chart, caption + note


def budgets_of(flops: Array) -> tuple[Array, float]:
    """Budgets of 6ND around which the fitted `flops` gather, and the tolerance in decades within which points belong to one.

    A wider tolerance is used only where a narrower one gathers too few points.
    """
    log_flops = np.sort(np.log10(flops))
    for near in _NEAR:
        counts = np.searchsorted(log_flops, log_flops + near, "right") - np.searchsorted(log_flops, log_flops - near)
        found: list[int] = []
        for k in np.argsort(-counts, kind="stable"):
            if counts[k] >= max(3, counts.max() / 4) and all(abs(log_flops[k] - log_flops[j]) >= _APART for j in found):
                found.append(int(k))
        if len(found) >= 3:
            break
    if len(found) < 2:
        return np.geomspace(flops.min(), flops.max(), _BUDGETS + 2)[1:-1], _NEAR[-1]
    centres = np.sort([np.median(log_flops[np.abs(log_flops - log_flops[k]) <= near]) for k in found])
    some = np.unique(np.linspace(0, len(centres) - 1, min(_BUDGETS, len(centres))).round().astype(int))
    return 10.0 ** centres[some], near


def _slice(fit: Fit, budget: float, here: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The law's slice around its points and its minimum, up to a little above the highest of its points."""
    sizes, most = here["n"].to_numpy(), float(here["loss"].max())
    best = optimum(fit, np.array([budget]))
    centre = best["n"].to_numpy() if len(best) else np.array([])
    inside = centre[(centre > rows["n"].min() / 10) & (centre < rows["n"].max() * 10)]
    spread = np.concatenate([sizes, inside / 1.8, inside * 1.8])
    if spread.size == 0:
        spread = np.sqrt(budget / 6 / (rows["tokens"] / rows["n"]).quantile([0.1, 0.9]).to_numpy())
    n = np.geomspace(spread.min() / 1.3, spread.max() * 1.3, 90)
    line = law_line(fit, {"n": n, "tokens": budget / (6 * n)})[["n", "loss"]]
    return line.loc[np.flatnonzero(line["loss"] <= max(1.25 * float(line["loss"].min()), 1.1 * most))]


def _draw_slices(fit: Fit, points: pd.DataFrame, curves: pd.DataFrame, lows: pd.DataFrame, order: list[str]) -> Any:
    shade = alt.Color("slice:N", sort=order, scale=alt.Scale(domain=order, range=ramp(len(order))), title="6ND (FLOPs)")
    x = axis("x", "n", column_title(fit, "n"), curves["n"], log=True)
    seen = np.concatenate([curves["loss"], points["loss"]])
    y = axis("y", "loss", column_title(fit, "loss"), seen, log=fit.space == "log", most=8)
    lines = alt.Chart(curves).mark_line(strokeWidth=1.6).encode(x=x, y=y, color=shade)
    dots = alt.Chart(points).mark_point(**dot(len(points), 30))
    layers = over_many(points, lines, dots.encode(x=x, y=y, color=shade, tooltip=tooltip(fit, points)))
    if len(lows):
        base = alt.Chart(lows).encode(x=x, y=y)
        layers.append(base.mark_line(color=INK, strokeWidth=1, strokeDash=[2, 2]))
        cross = base.mark_point(shape="cross", angle=45, size=70, color=INK, filled=True, opacity=1)
        layers.append(cross.encode(tooltip=["slice:N", *(alt.Tooltip(f"{k}:Q", format=".4~g") for k in ("n", "loss"))]))
    return alt.layer(*layers).properties(width=_SIZE + 60, height=_SIZE - 110)
