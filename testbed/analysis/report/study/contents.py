"""The contents of a study's page, and the function that writes it; the packages that draw it are imported only then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from testbed.analysis.certificate.certificate import Certificate
from testbed.analysis.fit import Fit
from testbed.errors import TestbedError
from testbed.records import Forecast, MissingCell, Provenance, Retried, RunSpec, Verdict


@dataclass(frozen=True)
class Contents:
    """Everything that a study's page shows; what is None or empty is left out."""

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


def write_page(folder: Path, contents: Contents) -> Path:
    """Write index.html and its figures into `folder`, and return the page's path.

    Raises:
        TestbedError: A package that draws is not installed; a machine that only trains needs none of them.
    """
    try:
        from testbed.analysis.report.study.study_page import render
    except ModuleNotFoundError as error:
        raise TestbedError(
            f"{folder}: the page needs the package {error.name}, which is not installed here; install the dependencies that "
            f"pyproject.toml lists, or copy the study's folder to a machine that has them, and run testbed report "
            f"{folder.parent}; the runs, the forecast and points.csv are complete without the page"
        ) from error
    return render(folder, contents)
