"""Universal kriging: a fitted law as the trend, and a smooth discrepancy about it.

No law is exact, and its misfit is not noise: neighbouring runs are off to the same side. Treating it as
independent errors makes intervals far too short beyond the data. Here the response (its log, in log
space) is

    y_i = f(phi; x_i) + d(x_i) + u_run(i) + e_i,

d a Gaussian process over the decades of the law's columns, u what the rows of one run share, e noise
(see `fit.discrepancy`). The parameters phi have weak priors about the estimate, or those of the
literature that the law names. They are moved to the posterior's mode, where the law is linearised
(Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 2.7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from testbed.analysis.fit.coordinates import Coordinates
from testbed.analysis.fit.estimate import Estimate, robust_sd
from testbed.analysis.fit.prediction.discrepancy import Covariance, Solved, distances, likeliest, matern
from testbed.analysis.fit.prediction.domain import Domain
from testbed.analysis.laws import Columns, Parameter

Array = NDArray[np.float64]

MOST_ROWS = 1000  # rows that are kriged; of more, those that fill their space
_ROUNDS, _SETTLED = 3, 1e-3  # of sizes and parameters in turn, and how little the latter move at the end
_NEWTON, _HALVINGS = 25, 12
_AT_A_TIME = 2000  # targets
_TRUSTED = 2.5  # residuals, in robust standard deviations, up to which a row is trusted in full
_SD = {"amplitude": 3.0, "constant": 0.5, "exponent": 0.5, "scale": 2.0, "fraction": 2.0}
_ABSENT = 6.0  # a term below exp(-6) of the response counts as found to be 0,
_LIFTED = 3.0  # is taken to be exp(-3) of it, and that by an e-fold or so
_LIFTED_SD = 1.5


@dataclass(frozen=True)
class Kriging:
    """A law and the discrepancy about it, conditioned on the rows of a fit.

    `phi` [p] are the parameters at the posterior's mode in the solver's coordinates; `sizes` the logs of
    the discrepancy's size and length (decades), of the row noise and, where runs repeat, of the run noise.
    `between` is the standard deviation between runs of one design (nan where there are none), `known` the
    part of the rows' noise that is that and not `sizes`.
    """

    coordinates: Coordinates
    phi: Array
    domain: Domain
    covariance: Covariance
    sizes: Array
    solved: Solved
    pulled: Array
    between: float = np.nan
    known: float = 0.0

    @classmethod
    def of(
        cls,
        coordinates: Coordinates,
        columns: Columns,
        y: Array,
        phi: Array,
        precision: Array,
        domain: Domain,
        covariance: Covariance,
        sizes: Array,
        between: float = np.nan,
        known: float = 0.0,
    ) -> Kriging:
        """Conditioned on responses y [n] at prepared columns, by parameters at their mode and sizes that are known."""
        slopes = coordinates.slopes(phi[None], columns)[0].T
        solved = Solved.of(covariance.matrix(sizes), slopes, precision)
        residuals = y - coordinates.response(phi[None], columns)[0]
        return cls(coordinates, phi, domain, covariance, sizes, solved, solved.inverse(residuals), between, known)

    @property
    def noise(self) -> float:
        """Variance of one run's noise, with what the law and the discrepancy are too smooth for."""
        _, _, row, *run = np.exp(2 * self.sizes)
        return float(row + (run[0] if run else 0.0) + self.known**2)

    def predict(self, columns: Columns, at: Array) -> tuple[Array, Array, Array]:
        """Mean [m] in the space of residuals, and its variances [m] from the parameters and from the discrepancy.

        `columns` are prepared, `at` [m, d] their coordinates of the domain.
        """
        mean = self.coordinates.response(self.phi[None], columns)[0]
        mean = np.array(np.broadcast_to(mean, len(at)), np.float64)
        slopes = self.coordinates.slopes(self.phi[None], columns)[0].T
        parameters, discrepancy = np.empty(len(at)), np.empty(len(at))
        size, length = np.exp(self.sizes[:2])
        for first in range(0, len(at), _AT_A_TIME):
            rows = slice(first, first + _AT_A_TIME)
            near = size**2 * matern(distances(at[rows], self.covariance.at), length)
            mean[rows] += near @ self.pulled
            left = slopes[rows] - near @ self.solved.across
            parameters[rows] = (left * self.solved.parameters(left.T).T).sum(axis=1)
            known = scipy.linalg.solve_triangular(self.solved.cholesky, near.T, lower=True, check_finite=False)
            discrepancy[rows] = size**2 - (known**2).sum(axis=0)
        return mean, np.maximum(parameters, 0.0), np.maximum(discrepancy, 0.0)


def krige(fit: Estimate, unit: str = "nats") -> Kriging:
    """Condition on the rows of `fit`; the same fit gives the same bits.

    `unit` is that of the loss: the literature's irreducible losses are in nats a token and say nothing of
    other units, nor of a table with losses below them. Of more than MOST_ROWS rows those are taken that
    fill the space of the law's columns evenly.
    """
    domain = Domain.of(fit.law, fit.rows.columns)
    keep = spread_rows(domain.rows, MOST_ROWS)
    size = 1.0 if fit.space == "log" else float(np.ptp(fit.rows.y)) or 1.0
    trust = _trust(fit.resid, size)
    between = _between(fit, trust)
    known = between if fit.replicates == "mean" and np.isfinite(between) else 0.0  # separate seeds show it themselves
    covariance = Covariance(
        at=domain.rows[keep],
        shared=_shared(fit, keep),
        weights=trust[keep],
        known=known**2 / np.asarray(fit.rows.members.sum(axis=1))[keep],
        unit=size,
    )
    coordinates, y = fit.problem.coordinates, fit.rows.y[keep]
    columns = {name: values[keep] for name, values in fit.problem.columns.items()}
    phi, centre, precision = _beliefs(fit, unit)
    sizes = _first_sizes(fit.resid, covariance)
    for _ in range(_ROUNDS):
        before = phi
        slopes = coordinates.slopes(phi[None], columns)[0].T
        residuals = y - coordinates.response(phi[None], columns)[0] - slopes @ (centre - phi)
        sizes = likeliest(covariance, residuals, slopes, precision, sizes)
        phi = _mode(coordinates, columns, y, covariance.matrix(sizes), phi, centre, precision)
        if np.abs(phi - before).max() < _SETTLED:
            break
    return Kriging.of(coordinates, columns, y, phi, precision, domain, covariance, sizes, between, known)


def _mode(
    coordinates: Coordinates,
    columns: Columns,
    y: Array,
    covariance: Array,
    phi: Array,
    centre: Array,
    precision: Array,
) -> Array:
    """The parameters that are likeliest a posteriori when the covariance is given: damped Gauss-Newton steps."""
    low, high = coordinates.bounds

    def cost(phi: Array, residuals: Array) -> float:
        if not np.isfinite(residuals).all():
            return np.inf
        return 0.5 * float(residuals @ solved.inverse(residuals) + precision @ (phi - centre) ** 2)

    residuals = y - coordinates.response(phi[None], columns)[0]
    slopes = coordinates.slopes(phi[None], columns)[0].T
    solved = Solved.of(covariance, slopes, precision)
    reached = cost(phi, residuals)
    for _ in range(_NEWTON):
        step = solved.parameters(solved.across.T @ residuals - precision * (phi - centre))
        step = step / max(1.0, float(np.abs(step).max()))
        for _ in range(_HALVINGS):
            trial = np.clip(phi + step, low, high)
            with np.errstate(all="ignore"):  # a step may leave where the law has a value
                trial_residuals = y - coordinates.response(trial[None], columns)[0]
            trial_cost = cost(trial, trial_residuals)
            if trial_cost <= reached:
                break
            step = step / 2
        else:
            break
        gained, phi, residuals, reached = reached - trial_cost, trial, trial_residuals, trial_cost
        if gained <= 1e-10 * (1 + abs(reached)):
            break
        slopes = coordinates.slopes(phi[None], columns)[0].T
        solved = solved.moved(slopes, precision)
    return phi


def _beliefs(fit: Estimate, unit: str) -> tuple[Array, Array, Array]:
    """Where the parameters' search begins, and their priors' means and precisions, each [p] in the solver's coordinates."""
    coordinates = fit.problem.coordinates
    start = fit.phi.copy()
    sizes = {"amplitude": np.log(coordinates.typical), "constant": np.log(coordinates.smallest)}
    sd = np.empty(len(start))
    for k, p in enumerate(coordinates.free):
        sd[k] = _SD.get(p.role, 3 * max(abs(start[k]), p.start[1] - p.start[0]))
        if p.role in sizes and start[k] < sizes[p.role] - _ABSENT:
            start[k] = sizes[p.role] - _LIFTED
            sd[k] = max(sd[k], _LIFTED_SD)
    centre = start.copy()
    for k, p in enumerate(coordinates.free):
        if p.name in fit.law.priors and _prior_applies(p, fit, unit):
            centre[k], sd[k] = fit.law.priors[p.name]
    return start, centre, sd**-2.0


def _prior_applies(p: Parameter, fit: Estimate, unit: str) -> bool:
    """Whether the literature's prior of a parameter applies to this table: a constant's needs nats, and losses above it."""
    if p.role != "constant":
        return True
    return unit == "nats" and fit.law.priors[p.name][0] < np.log(fit.problem.coordinates.smallest)


def _trust(residuals: Array, unit: float) -> Array:
    """Weights [rows] of at most 1 that are small for gross outliers."""
    typical = _typical(residuals, unit)
    return np.asarray(np.minimum(1.0, _TRUSTED * typical / np.maximum(np.abs(residuals), 1e-12 * unit)))


def _typical(residuals: Array, unit: float) -> float:
    return max(robust_sd(residuals), 2e-4 * unit)


def _first_sizes(residuals: Array, covariance: Covariance) -> Array:
    """Where the search for the sizes begins: at the residuals' own size."""
    typical = _typical(residuals, covariance.unit)
    start = np.log([typical, 1.0, 0.7 * typical, 0.5 * typical])
    start[1] = covariance.prior[0][1]
    return np.asarray(start[: len(covariance.prior[0])])


def _shared(fit: Estimate, keep: NDArray[np.intp]) -> Array | None:
    """The part of their runs that two rows share [n, n]; None where no two rows share any."""
    members = fit.rows.members[keep]
    shares = members.multiply(1 / members.sum(axis=1)[:, None]).tocsr()
    shared = shares @ shares.T
    return np.asarray(shared.toarray()) if shared.nnz > len(keep) else None


def _between(fit: Estimate, trust: Array) -> float:
    """Pooled standard deviation between runs of one design, in the space of residuals; nan where no design has two.

    Outliers are weighted down as elsewhere: otherwise a few runs that diverged would widen the interval of
    every other run.
    """
    if fit.replicates == "mean":
        return fit.rows.noise_sd()
    y, designs = fit.rows.y, fit.rows.designs
    cell = designs.groupby(list(designs.columns)).ngroup().to_numpy()
    total = np.bincount(cell, trust)
    if len(total) == len(y):
        return np.nan
    mean = np.bincount(cell, trust * y) / total
    return float(np.sqrt(trust @ (y - mean[cell]) ** 2 / (len(y) - len(total))))


def spread_rows(at: Array, most: int) -> NDArray[np.intp]:
    """Numbers of at most `most` rows of `at` [n, d] that fill its space evenly: in turn one from each cell of a grid."""
    if len(at) <= most:
        return np.arange(len(at))
    low, span = at.min(axis=0), np.maximum(np.ptp(at, axis=0), 1e-300)
    cells = np.zeros(len(at), np.int64)
    for per_axis in (2 ** (np.arange(2, 19) / 2)).astype(int):
        grid = np.minimum((at - low) / span * per_axis, per_axis - 1).astype(np.int64)
        finer = grid @ per_axis ** np.arange(at.shape[1], dtype=np.int64) if at.shape[1] else cells
        if len(np.unique(finer)) > most // 2:
            break
        cells = finer
    turn = pd.Series(cells).groupby(cells).cumcount().to_numpy()
    return np.sort(np.argsort(turn, kind="stable")[:most])
