"""Two recipes compared: tables for the terminal and the page, and the page with their frontiers and compute multiplier."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from testbed.analysis.fit.comparison.recipes import RecipeComparison, sentences
from testbed.analysis.report.fit.response import thinned
from testbed.analysis.report.pages import formula, page_html, shown
from testbed.analysis.report.study.tables import TextTable
from testbed.analysis.report.style import BLUE, GREY, INK, ORANGE, axis, brief, configured, letter
from testbed.errors import ConfigError
from testbed.files import write_text
from testbed.units import show_count

_WIDTH = 570
_TITLES = {"frontiers": "Compute-optimal frontiers", "multiplier": "Compute multiplier"}


def parameter_table(compared: RecipeComparison, greek: bool = False) -> TextTable:
    """Both recipes' parameters with their intervals, and the second's minus the first's; in Greek letters if `greek`."""
    first, second = compared.names
    interval = f"{100 * compared.level:.3g} % interval"
    rows = []
    for row in compared.parameters.to_dict("records"):
        cells = [letter(row["parameter"]) if greek else row["parameter"]]
        for name in ("first", "second", "difference"):
            cells += [f"{row[name]:.4g}", f"{brief(row[f'{name}_low'])} to {brief(row[f'{name}_high'])}"]
        rows.append(tuple(cells))
    return TextTable(("parameter", first, interval, second, interval, f"{second} minus {first}", interval), tuple(rows))


def loss_table(compared: RecipeComparison) -> TextTable:
    """The compute that each recipe needs for some losses, and the ratio of the second's to the first's."""
    first, second = compared.names
    rows = [
        (
            f"{row['loss']:.4f}",
            _count(row["flops_first"]),
            _count(row["flops_second"]),
            _multiple(row["multiplier"]),
            f"{_multiple(row['low'])} to {_multiple(row['high'])}",
        )
        for row in compared.by_loss.to_dict("records")
    ]
    interval = f"{100 * compared.level:.3g} % interval"
    return TextTable(("loss", f"FLOPs of {first}", f"FLOPs of {second}", "multiplier", interval), tuple(rows))


def save_page(compared: RecipeComparison, path: Path) -> None:
    """Write the page to `path`: one HTML file that works without a network.

    Raises:
        ConfigError: `path` does not end in .html.
    """
    if path.suffix.lower() != ".html":
        raise ConfigError(f"{path}: found the ending {path.suffix!r}; accepted: .html")
    charts = {"frontiers": _frontiers(compared), "multiplier": _multiplier(compared)}
    specifications = {name: configured(chart).to_dict() for name, (chart, _) in charts.items()}
    law = compared.first.law
    page = page_html(
        "fit/fit.html.j2",
        specifications,
        name=" against ".join(compared.names),
        formula=formula(law),
        source=law.source,
        sentence=" ".join(sentences(compared)),
        findings=compared.warnings,
        parameters=shown(parameter_table(compared, greek=True)),
        facts=shown(loss_table(compared)),
        figures=[(name, _TITLES[name], caption) for name, (_, caption) in charts.items()],
    )
    write_text(path, page)


def _frontiers(compared: RecipeComparison) -> tuple[Any, str]:
    """Both frontiers with the bands of their resamples, over the compute of the runs of both and a decade beyond."""
    table = pd.concat([_frontier(compared, k) for k in (0, 1)])
    drawn = [_fitted_runs(compared, k) for k in (0, 1)]
    runs = pd.concat([points for points, _ in drawn])
    x = axis("x", "flops", "6ND (FLOPs)", table["flops"], log=True, pad=0.02, most=8)
    y = axis("y", "loss", "loss (nats/token)", [*table["loss"], *runs["loss"]], log=True, most=8)
    hue = _colour(compared)
    dots = alt.Chart(runs).mark_point(filled=True, size=14, opacity=0.35).encode(x=x, y=y, color=hue)
    bands = table.drop(columns="loss").rename(columns={"low": "loss"})
    band = alt.Chart(bands).mark_area(opacity=0.2, clip=True).encode(x=x, y=y, y2="high:Q", color=hue)
    line = alt.Chart(table).mark_line(clip=True).encode(x=x, y=y, color=hue)
    caption = (
        f"The lowest loss for each compute, at the best N and D, with {100 * compared.level:.0f} % intervals from resamples "
        "of whole runs; dots are the runs that were fitted, which lie on or above their frontier."
    ) + "".join(note for _, note in drawn)
    return alt.layer(dots, band, line).properties(width=_WIDTH, height=320), caption


def _multiplier(compared: RecipeComparison) -> tuple[Any, str]:
    """The multiplier along the compute of the first recipe, with its interval and a line at 1."""
    first, second = compared.names
    table = compared.by_compute.replace([np.inf, -np.inf], np.nan).dropna()
    spanned = [1.0, *table["multiplier"], *table["low"], *table["high"]]
    x = axis("x", "flops", f"6ND of {first} (FLOPs)", compared.by_compute["flops"], log=True, pad=0.02, most=8)
    y = axis("y", "multiplier", f"compute of {second} / {first}", spanned, log=True, most=8)
    even = alt.Chart(pd.DataFrame({"multiplier": [1.0]})).mark_rule(color=GREY, strokeDash=[4, 3]).encode(y=y)
    bands = table.drop(columns="multiplier").rename(columns={"low": "multiplier"})
    band = alt.Chart(bands).mark_area(opacity=0.2, color=INK).encode(x=x, y=y, y2="high:Q")
    line = alt.Chart(table).mark_line(color=INK).encode(x=x, y=y)
    caption = (
        f"The compute that {second} needs for the loss that {first} reaches, as a multiple of {first}'s, both at their best N "
        f"and D, with its {100 * compared.level:.0f} % interval; above 1 {first} is better."
    )
    return alt.layer(even, band, line).properties(width=_WIDTH, height=240), caption


def _frontier(compared: RecipeComparison, which: int) -> pd.DataFrame:
    curves = compared.curves[which]
    low, high = compared.whole
    within = (curves.compute >= low) & (curves.compute <= high + math.log(10))
    losses = curves.losses[:, within]
    losses = losses[0] + np.concatenate([losses[:1] * 0, curves.inflation * (losses[1:] - losses[0])])
    ends = np.nanquantile(losses, [(1 - compared.level) / 2, (1 + compared.level) / 2], axis=0)
    columns = {"flops": curves.compute[within], "loss": losses[0], "low": ends[0], "high": ends[1]}
    return pd.DataFrame({name: np.exp(values) for name, values in columns.items()}).assign(recipe=compared.names[which])


def _fitted_runs(compared: RecipeComparison, which: int) -> tuple[pd.DataFrame, str]:
    """Columns flops, loss and recipe of the runs that were fitted, and a sentence where not all of them are drawn."""
    points, note = thinned((compared.first, compared.second)[which].points)
    flops = 6 * points["n"] * points["tokens"]
    return pd.DataFrame({"flops": flops, "loss": points["loss"], "recipe": compared.names[which]}), note


def _colour(compared: RecipeComparison) -> alt.Color:
    scale = alt.Scale(domain=list(compared.names), range=[BLUE, ORANGE])
    return alt.Color("recipe:N", title=None, scale=scale, legend=alt.Legend(labelLimit=260))


def _count(value: float) -> str:
    return show_count(value) if math.isfinite(value) and value > 0 else "beyond reach"


def _multiple(value: float) -> str:
    return brief(value) if math.isfinite(value) and value > 0 else "beyond reach"
