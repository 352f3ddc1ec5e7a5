"""The page of one fit: law, parameters, warnings and figures, in one HTML file that works without a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from testbed.analysis.fit import Fit
from testbed.analysis.report.pages import formula, page_html, shown
from testbed.analysis.report.study.tables import TextTable
from testbed.analysis.report.style import brief, letter
from testbed.units import show_count

_TITLES = {
    "isoloss": "Equal loss",
    "isoflop": "Equal compute",
    "response": "The law beside its points",
    "extrapolation": "Beyond the data",
    "residuals": "Residuals",
    "profile": "Profiles of the parameters",
    "corner": "Resampled parameters",
}


def page(fit: Fit, specifications: dict[str, dict[str, Any]], level: float) -> str:
    """The page as HTML; `specifications` are the figures' by name, `level` is that of the intervals."""
    return page_html(
        "fit/fit.html.j2",
        specifications,
        name=fit.law.name,
        formula=formula(fit.law),
        source=fit.law.source,
        sentence=_sentence(fit),
        findings=fit.diagnostics(),
        parameters=shown(_parameters(fit, level)),
        facts=shown(_facts(fit)),
        figures=[(name, _TITLES[name], each["description"]) for name, each in specifications.items()],
    )


def _sentence(fit: Fit) -> str:
    """The response, the runs and the objective, in a sentence."""
    runs = f"{fit.nobs:,} rows of {fit.n_runs:,} runs" if fit.n_runs != fit.nobs else f"{fit.nobs:,} runs"
    return f"{fit.law.response.capitalize()} of {runs}; minimised: {fit.in_words}."


def _parameters(fit: Fit, level: float) -> TextTable:
    """Estimates, with standard errors and intervals if there are enough resamples."""
    if len(fit.resamples) < 20:
        rows = [(letter(name), f"{value:.5g}") for name, value in fit.theta.items()]
        return TextTable(("parameter", "estimate"), tuple(rows))
    bounds, errors = fit.conf_int(1 - level), fit.bse
    table = []
    for name, value in fit.theta.items():
        if name in fit.fixed:
            table.append((letter(name), f"{value:.5g}", "held", ""))
            continue
        low, high = (float(bounds[end][name]) for end in ("low", "high"))
        table.append((letter(name), f"{value:.5g}", brief(errors[name]), _ends(low, high)))
    return TextTable(("parameter", "estimate", "standard error", f"{100 * level:.0f} % interval"), tuple(table))


def _ends(low: float, high: float) -> str:
    """The ends of an interval; there is none where too few of the resamples converged."""
    return "not known" if low != low or high != high else f"{brief(low)} to {brief(high)}"


def _facts(fit: Fit) -> TextTable:
    """Measures of fit, and the columns of the table that were fitted."""
    rms = float(np.sqrt(np.mean(fit.resid**2)))
    rows = [
        ("objective", f"{fit.objective:.9g}"),
        ("rms residual", f"{100 * rms:.3g} %" if fit.space == "log" else f"{rms:.3g}"),
        ("R²", f"{fit.rsquared:.5f}"),
        ("resamples", show_count(len(fit.resamples))),
        *((name, source) for name, source in fit.columns.items() if name in (*fit.law.columns, fit.law.response)),
    ]
    return TextTable(("fact", ""), tuple(rows))
