"""What a planted truth is, and how its table is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from testbed.analysis.laws import Law


@dataclass(frozen=True)
class Planted:
    """Parameters in the law's natural units, and the raw columns [n] of a table (what `Law.columns` names)."""

    params: dict[str, float]
    columns: dict[str, Any]


def grid(**axes: Any) -> dict[str, np.ndarray]:
    """Every combination of the axes' values, as columns."""
    mesh = np.meshgrid(*axes.values(), indexing="ij")
    return {name: values.ravel() for name, values in zip(axes, mesh, strict=True)}


def noisy(law: Law, planted: Planted, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """The table of `planted`, its response off by a relative `noise` (of its spread where the law is linear); a run a row."""
    theta = {name: np.array([[value]]) for name, value in planted.params.items()}
    exact = np.real(law.value(theta, law.prepare(planted.columns))[0])
    errors = noise * np.random.default_rng(seed).normal(size=len(exact))
    response = exact * np.exp(errors) if law.space == "log" else exact + np.ptp(exact) * errors
    table = pd.DataFrame({**planted.columns, law.response: response})
    return table if "run" in table else table.assign(run=[str(i) for i in range(len(table))])
