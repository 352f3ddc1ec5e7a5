"""Frozen records with a JSON form, which all floors above exchange: runs, their losses, forecasts and verdicts.

Units: loss in nats/token, bpb in bits/byte, tokens and FLOPs as counts, times in seconds.
"""

from testbed.records.forecast import (
    Entropy,
    Forecast,
    Interval,
    LawForecast,
    MissingCell,
    Retried,
    TargetFacts,
    Verdict,
)
from testbed.records.record import Record, as_json, format_of, problem, read_record, read_records, too_new
from testbed.records.run_history import Done, Eval, Failed, Notice, Phase, Provenance
from testbed.records.run_spec import (
    Component,
    Counts,
    DataFacts,
    Design,
    Engine,
    Horizon,
    Precision,
    Role,
    RunSpec,
    Segment,
    Shape,
)

__all__ = [
    "Component",
    "Counts",
    "DataFacts",
    "Design",
    "Done",
    "Engine",
    "Entropy",
    "Eval",
    "Failed",
    "Forecast",
    "Horizon",
    "Interval",
    "LawForecast",
    "MissingCell",
    "Notice",
    "Phase",
    "Precision",
    "Provenance",
    "Record",
    "Retried",
    "Role",
    "RunSpec",
    "Segment",
    "Shape",
    "TargetFacts",
    "Verdict",
    "as_json",
    "format_of",
    "problem",
    "read_record",
    "read_records",
    "too_new",
]
