"""The belief after runs: the fit's kriging, at candidates and target together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from testbed.analysis.design.belief import Belief, Noise
from testbed.analysis.design.candidates import Candidates
from testbed.analysis.design.prior import check_columns
from testbed.analysis.fit import Fit
from testbed.analysis.fit.prediction.discrepancy import distances, matern
from testbed.analysis.fit.prediction.domain import log_compute
from testbed.analysis.fit.prediction.kriging import MOST_ROWS, Kriging, krige, spread_rows
from testbed.analysis.fit.prediction.predict import Prediction, get_prediction

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TargetBelief:
    """A fit's prediction of a target, and the belief behind it, of the target and of candidate runs."""

    prediction: Prediction
    belief: Belief


def posterior_belief(
    fit: Fit,
    candidates: Candidates,
    target: Mapping[str, float],
    *,
    unit: str = "nats",
    seeds: int = 1,
    count: int = 24,
    seed: int = 0,
) -> TargetBelief:
    """The belief at candidates and target (n, tokens, flops) behind the fit's own prediction interval.

    The `count` draws are of the parameters' posterior; the sizes of misfit and noise are those of the kriging. The losses
    of a new run share as much noise as those of the fit's runs do, or all of it where no run of the fit repeats.
    `seeds` runs of the target will be averaged; `unit` is that of the losses, as in `Fit.get_prediction`.

    Raises:
        ConfigError: The law needs other columns than n, tokens and flops.
    """
    check_columns(fit.law)
    kriging = krige(fit, unit)
    at = {name: np.array([target[name]]) for name in fit.law.columns}
    prediction = get_prediction(fit, at, unit=unit, seeds=seeds, kriging=kriging)
    cells = candidates.columns
    raw = {name: np.append(cells[name], target[name]) for name in fit.law.columns}
    covariance = _joint(fit, kriging, raw, count, seed)
    at_estimate = float(_joint(fit, kriging, at, 0, seed)[0, -1, -1])
    row, run = np.exp(2 * kriging.sizes[2]) + kriging.known**2, np.exp(2 * kriging.sizes[3:]).sum()
    noise = Noise(float(np.sqrt(run)), float(np.sqrt(row)))
    if candidates.branches and not len(kriging.sizes[3:]):
        noise = Noise(noise.single, 0.0)
    compute = log_compute(raw)
    known = kriging.domain.compute
    rough = float(prediction.sd_discrepancy[0] ** 2 + prediction.sd_param[0] ** 2) - at_estimate
    belief = Belief(
        covariance=covariance,
        compute=np.log10(np.append(cells["flops"], target["flops"])) if compute is None else compute,
        reached=-np.inf if known is None else float(known.max()),
        noise=noise,
        new=max(rough, 0.0) + float(prediction.sd_noise[0] ** 2),
        scale=at_estimate / float(covariance[:, -1, -1].mean()),
    )
    return TargetBelief(prediction, belief)


def _joint(fit: Fit, kriging: Kriging, raw: Mapping[str, Array], count: int, seed: int) -> Array:
    """Covariances [count, m, m] of the mean response at raw columns [m], one a draw; [1, m, m] at the estimate if count is 0."""
    coordinates, solved = kriging.coordinates, kriging.solved
    size, length = np.exp(kriging.sizes[:2])
    keep = spread_rows(kriging.domain.rows, MOST_ROWS)
    columns = {name: values[keep] for name, values in fit.problem.columns.items()}
    ahead = fit.law.prepare(dict(raw))
    at = kriging.domain.coordinates(raw)
    estimate = coordinates.slopes(kriging.phi[None], columns)[0]
    information = solved.factor @ solved.factor.T
    precision = information - estimate @ solved.across
    phi = kriging.phi[None]
    if count:
        normal = np.random.default_rng(seed).normal(size=(count, len(kriging.phi)))
        phi = phi + np.asarray(solve_triangular(solved.factor, normal.T, lower=True, trans="T")).T
        phi = np.clip(phi, *coordinates.bounds)
    near = size**2 * matern(distances(at, kriging.covariance.at), length)
    half_near = solve_triangular(solved.cholesky, near.T, lower=True)  # [n, m]
    slopes = coordinates.slopes(phi, columns)
    half = solve_triangular(solved.cholesky, np.concatenate(list(slopes)).T, lower=True)  # [n, B p]
    half = half.T.reshape(len(phi), slopes.shape[1], -1)
    left = coordinates.slopes(phi, ahead) - half @ half_near
    known = half @ half.transpose(0, 2, 1) + precision
    parameters = left.transpose(0, 2, 1) @ np.linalg.solve(known, left)
    misfit = size**2 * matern(distances(at, at), length) - half_near.T @ half_near
    return np.asarray(parameters + misfit)
