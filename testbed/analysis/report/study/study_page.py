"""The page of a study: one self-contained HTML file that works without a network, with its figures as SVG and PNG."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from testbed.analysis.certificate.certificate import Certificate
from testbed.analysis.fit import Fit
from testbed.analysis.report.certificate.bracket_figure import brackets
from testbed.analysis.report.certificate.certificate_sentences import (
    certificate_sentences,
    corners_table,
    rungs_table,
    verdict_sentence,
)
from testbed.analysis.report.pages import formula, page_html, pictures, shown
from testbed.analysis.report.study import sentences, study_figures, tables
from testbed.analysis.report.study.contents import Contents
from testbed.analysis.report.style import configured
from testbed.files import replacing, write_text
from testbed.records import Forecast, Verdict
from testbed.units import show_count


def render(folder: Path, contents: Contents) -> Path:
    """Write index.html and its figures into `folder`, and return the page's path."""
    charts = {name: configured(chart).to_dict() for name, chart in _charts(contents).items()}
    for name, chart in charts.items():
        for ending, content in pictures(chart, ".svg", ".png").items():
            with replacing(folder / f"{name}{ending}") as temporary:
                temporary.write_bytes(content)
    write_text(folder / "index.html", page_html("study/page.html.j2", charts, **_text(contents), figures=list(charts)))
    return folder / "index.html"


def _charts(contents: Contents) -> dict[str, Any]:
    points, fits, forecast = contents.points, contents.fits, contents.forecast
    charts: dict[str, Any] = {}
    if len(points):
        charts["loss-curves"] = study_figures.loss_curves(points)
    if fits:
        charts["loss-against-n"] = study_figures.loss_against(points, fits, "n", contents.n_column, forecast)
        charts["loss-against-d"] = study_figures.loss_against(points, fits, "tokens", contents.n_column, forecast)
        charts["isoflop"] = study_figures.isoflop(points, fits, contents.n_column)
        charts["residuals"] = study_figures.residuals(points, fits, contents.n_column)
    if forecast is not None:
        charts["verdict"] = study_figures.verdict_strip(forecast, contents.verdict)
    if contents.certificate is not None and contents.certificate.corners:
        charts["brackets"] = brackets(contents.certificate)
    return charts


def _text(contents: Contents) -> dict[str, Any]:
    forecast, verdict = contents.forecast, contents.verdict
    done = sum(state == "done" for state in contents.states.values())
    spent = sum(spec.flops for spec in contents.specs if contents.states[spec.run_id] == "done")
    text: dict[str, Any] = {
        "name": contents.name,
        "subtitle": f"A scaling study on {contents.specs[0].data.source}, family {contents.specs[0].shape.family}.",
        "headline": _headline(forecast, verdict),
        "missed": verdict is not None and not verdict.hit,
        "runs_sentence": f"{done} of {len(contents.specs)} runs are done; they spent {show_count(spent)} training FLOPs.",
        "warnings": contents.warnings,
        "failures": contents.failures,
        "missing": sentences.missing_sentence(contents.missing) if contents.missing else None,
        "retried": sentences.retried_sentence(contents.retried) if contents.retried else None,
        "notices": contents.notices,
        "data": contents.data,
        "plan": shown(tables.plan_table(contents.specs)),
        "unfitted": sentences.unfitted_sentence(contents.unfitted) if contents.unfitted else None,
        "laws": [_law(fit) for fit in contents.fits.values()],
        "provenance": shown(tables.provenance_table(contents.provenance, contents.specs)),
        "config_hash": contents.config_hash,
        "config_toml": contents.config_toml,
        "forecast": None,
        "certificate": _certificate(contents.certificate) if contents.certificate is not None else None,
    }
    if forecast is not None:
        true, held = (verdict.true_entropy, verdict.entropy_held) if verdict else (None, None)
        entropy = sentences.entropy_sentence(forecast, true, held)
        text |= {
            "forecast": shown(tables.forecast_table(forecast, verdict)),
            "parts": shown(tables.parts_table(forecast)),
            "seal": shown(tables.seal_table(forecast)),
            "forecast_sentences": [entropy] if entropy else [],
        }
    return text


def _certificate(certificate: Certificate) -> dict[str, Any]:
    return {
        "verdict": verdict_sentence(certificate),
        "sentences": certificate_sentences(certificate, "FOLDER"),
        "corners": shown(corners_table(certificate)) if certificate.corners else None,
        "rungs": shown(rungs_table(certificate)) if certificate.rungs else None,
        "made": f"Made {certificate.made_at}.",
    }


def _headline(forecast: Forecast | None, verdict: Verdict | None) -> list[str]:
    if forecast is None:
        return []
    outcome = sentences.verdict_sentence(verdict) if verdict else "The target has not been judged yet."
    return [f"Sealed {forecast.sealed_at}. {sentences.forecast_sentence(forecast)}", outcome]


def _law(fit: Fit) -> dict[str, Any]:
    rms = math.sqrt(float(np.mean(fit.resid**2)))
    return {
        "name": fit.law.name,
        "formula": formula(fit.law),
        "source": fit.law.source,
        "rms": f"{100 * rms:.2f} %",
        "table": shown(tables.fit_table(fit, fit.conf_int(0.1), 0.9)),
    }
