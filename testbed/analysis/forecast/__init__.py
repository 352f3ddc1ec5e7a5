"""Forecasts sealed before their target is trained, and the verdict on them. Never imports torch."""

from testbed.analysis.forecast.rule import (
    Circumstances,
    check_design,
    check_what_is_left,
    fit_laws,
    make_forecast,
    rule_in_words,
)
from testbed.analysis.forecast.verdict import compute_equivalent, judge

__all__ = [
    "Circumstances",
    "check_design",
    "check_what_is_left",
    "compute_equivalent",
    "fit_laws",
    "judge",
    "make_forecast",
    "rule_in_words",
]
