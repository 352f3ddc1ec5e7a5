"""Warnings about a fit, and whether the data determine its parameters at all."""

from testbed.analysis.fit.diagnostics.carried import carried, far_answer
from testbed.analysis.fit.diagnostics.cautions import far_target, isoflop_parabola, rounded_params
from testbed.analysis.fit.diagnostics.diagnose import diagnose
from testbed.analysis.fit.diagnostics.finding import Finding
from testbed.analysis.fit.diagnostics.identification import doubts, unidentified

__all__ = [
    "Finding",
    "carried",
    "diagnose",
    "doubts",
    "far_answer",
    "far_target",
    "isoflop_parabola",
    "rounded_params",
    "unidentified",
]
