"""The figures of a fit: those that its law allows, as charts and as files.

Each is one altair specification with its caption as `description`: interactive on a page, SVG, PNG or PDF for a paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from testbed.analysis.fit import Fit
from testbed.analysis.report.fit import extrapolation as fit_extrapolation
from testbed.analysis.report.fit import parameters as fit_parameters
from testbed.analysis.report.fit import plane as fit_plane
from testbed.analysis.report.fit import response as fit_response
from testbed.analysis.report.fit.fit_page import page
from testbed.analysis.report.pages import PICTURES, pictures
from testbed.analysis.report.style import configured
from testbed.errors import ConfigError
from testbed.files import replacing


def figure_names(fit: Fit) -> tuple[str, ...]:
    """The names of the figures that this fit has, in the order of the page."""
    plane = fit_plane.has_plane(fit)
    offered = {
        "isoloss": plane,
        "isoflop": plane,
        "response": True,
        "extrapolation": fit_extrapolation.can_extrapolate(fit),
        "residuals": True,
        "profile": True,
        "corner": len(fit.resamples) >= fit_parameters.FEWEST and len(fit_parameters.free_parameters(fit)) > 1,
    }
    return tuple(name for name, there in offered.items() if there)


def figures_of(
    fit: Fit,
    level: float = 0.9,
    target: Mapping[str, float] | None = None,
    colour_by: str | None = None,
    only: str | None = None,
) -> dict[str, Any]:
    """The charts of a fit by name; `chart.description` is the caption.

    `level` is that of the intervals. `target` is a run beyond the data, given by the law's columns and its response if
    that is known; `colour_by` is the fitted column that colours the residuals; `only` asks for one figure.

    Raises:
        ConfigError: The fit does not have the figure `only`, or `colour_by` or `target` do not suit its columns.
    """
    names = figure_names(fit)
    if only is not None and only not in names:
        raise ConfigError(f"figure {only!r}: {fit.law.name} does not have it; accepted: {', '.join(names)}")
    makers: dict[str, Callable[[], tuple[Any, str]]] = {
        "isoloss": lambda: fit_plane.contours(fit),
        "isoflop": lambda: fit_plane.slices(fit),
        "response": lambda: fit_response.response(fit, level),
        "extrapolation": lambda: fit_extrapolation.extrapolation(fit, level, target),
        "residuals": lambda: fit_response.residuals(fit, colour_by),
        "profile": lambda: fit_parameters.profiles(fit, level),
        "corner": lambda: fit_parameters.corner(fit, level),
    }
    made = {name: makers[name]() for name in (names if only is None else (only,))}
    return {name: configured(chart).properties(description=caption) for name, (chart, caption) in made.items()}


def save_figures(
    fit: Fit,
    path: Path,
    *,
    figure: str | None = None,
    level: float = 0.9,
    target: Mapping[str, float] | None = None,
    colour_by: str | None = None,
) -> list[Path]:
    """Write the figures of a fit and return the files' paths.

    A `path` that ends in .html gets one page with all figures, which works without a network; .svg, .png or .pdf gets the
    one named `figure`; without an ending it is a folder for the page and every figure as SVG and PNG. All files are
    complete before the first takes its place.

    Raises:
        ConfigError: Another ending, a picture without `figure`, or a figure that the fit does not have.
    """
    ending = path.suffix.lower()
    if ending not in ("", ".html", *PICTURES):
        raise ConfigError(
            f"{path}: found the ending {path.suffix}; accepted: .html, {', '.join(PICTURES)}, or a folder"
        )
    if ending in PICTURES and figure is None:
        names = ", ".join(figure_names(fit))
        raise ConfigError(
            f"{path}: a {ending} holds one figure; say which (--figure {names}), or give .html for a page"
        )
    charts = figures_of(fit, level, target, colour_by, figure)
    specifications = {name: chart.to_dict() for name, chart in charts.items()}
    if ending in PICTURES:
        return _written({path: pictures(specifications[str(figure)], ending)[ending]})
    if ending:
        return _written({path: page(fit, specifications, level).encode()})
    files = {path / "index.html": page(fit, specifications, level).encode()}
    for name, specification in specifications.items():
        files |= {path / f"{name}{kind}": made for kind, made in pictures(specification, ".svg", ".png").items()}
    return _written(files)


def _written(files: dict[Path, bytes]) -> list[Path]:
    """Write all of them before the first takes its place."""
    with ExitStack() as stack:
        for path, content in files.items():
            stack.enter_context(replacing(path)).write_bytes(content)
    return list(files)
