"""A law's value at given parameters, and the objective that published fits minimise."""

import numpy as np
import pandas as pd

from testbed.analysis.laws import LAWS

from .public_tables import SHARED


def value(law, theta, columns):
    """The response [n] of a law, or the law of a name, at a table's columns."""
    law = LAWS[law] if isinstance(law, str) else law
    theta = {key: np.array([[float(v)]]) for key, v in theta.items()}
    return np.asarray(law.value(theta, law.prepare(columns))[0])


def objective(residuals, delta=1e-3):
    """The sum of Huber losses."""
    psi = np.clip(residuals, -delta, delta)
    return float((psi * (residuals - psi / 2)).sum())


def table(path):
    """A public table."""
    return pd.read_csv(SHARED / "data" / path)
