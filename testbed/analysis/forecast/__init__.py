"""Forecasts that are sealed before their target is trained, and the verdict on them. Never imports torch."""

from testbed.analysis.forecast.rule import (
    Circumstances,
    check_design,
    check_remaining,
    describe_rule,
    fit_laws,
    follows_from_n_and_tokens,
    make_forecast,
    measured_columns,
)
from testbed.analysis.forecast.verdict import compute_equivalent, judge

__all__ = [
    "Circumstances",
    "check_design",
    "check_remaining",
    "compute_equivalent",
    "describe_rule",
    "fit_laws",
    "follows_from_n_and_tokens",
    "judge",
    "make_forecast",
    "measured_columns",
]
