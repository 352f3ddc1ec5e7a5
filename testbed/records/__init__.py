"""What crosses floors: frozen records with a JSON form, and the identity of a run.

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
from testbed.records.record import Record, as_json, problem, read_record, read_records
from testbed.records.run import (
    Component,
    Counts,
    DataFacts,
    Done,
    Engine,
    Eval,
    Failed,
    Horizon,
    Notice,
    Phase,
    Precision,
    Provenance,
    Role,
    RunSpec,
    Shape,
)

__all__ = [
    "Component",
    "Counts",
    "DataFacts",
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
    "Shape",
    "TargetFacts",
    "Verdict",
    "as_json",
    "problem",
    "read_record",
    "read_records",
]
