"""An outside authority for the solver: scipy's robust least squares, whose cost is the very sum of Huber losses."""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

from testbed.analysis.fit.problem import Problem


def least_cost(problem: Problem, y: np.ndarray, start: np.ndarray) -> float:
    """The objective of `problem` at scipy's optimum for responses y [n], from coordinates `start` [p]."""
    return least_squares(
        lambda phi: y - problem.coordinates.response(phi[None], problem.columns)[0],
        start,
        jac=lambda phi: -problem.coordinates.slopes(phi[None], problem.columns)[0].T,
        loss="huber",
        f_scale=problem.delta,
        x_scale="jac",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
        max_nfev=2000,
    ).cost
