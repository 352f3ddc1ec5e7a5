"""The contents of a study's page."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from testbed.analysis.certificate.certificate import Certificate
from testbed.analysis.fit import Fit
from testbed.records import Forecast, MissingCell, Provenance, Retried, RunSpec, Verdict


@dataclass(frozen=True)
class Contents:
    """Everything that a study's page shows; what is None or empty is left out.

    `unfitted` says why a finished grid has no `fits`.
    """

    name: str
    config_toml: str
    config_hash: str
    specs: tuple[RunSpec, ...]
    states: dict[str, str]
    failures: dict[str, str]
    warnings: tuple[str, ...]
    points: pd.DataFrame
    fits: dict[str, Fit]
    n_column: str
    forecast: Forecast | None
    verdict: Verdict | None
    provenance: tuple[Provenance, ...]
    missing: tuple[MissingCell, ...] = ()
    retried: tuple[Retried, ...] = ()
    notices: tuple[str, ...] = ()
    certificate: Certificate | None = None
    unfitted: str | None = None
    data: tuple[str, ...] = ()
