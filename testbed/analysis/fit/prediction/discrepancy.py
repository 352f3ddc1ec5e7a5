"""The covariance of a law's residuals: a smooth discrepancy, noise shared by a run, and noise of each row.

The discrepancy is a Gaussian process over the rows' coordinates with a Matern 3/2 correlation. Its size
and length and the sizes of both noises maximise the restricted likelihood (Patterson and Thompson,
Biometrika 58, 1971), in which the law's parameters are integrated out, times weak priors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy  # its submodules are loaded when they are first used: linalg and optimize take a while
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Means and standard deviations of the logs of discrepancy, its length in decades, row noise and run noise
_PRIOR_MEAN = np.log([0.01, 1.5, 0.003, 0.003])
_PRIOR_SD = np.array([1.0, 0.5, 1.5, 1.0])
_LENGTHS = (0.02, 50.0)
_LEAST = 5e-4  # noise that every row has at least
_STEPS = 60


@dataclass(frozen=True)
class Covariance:
    """The covariance of residuals of n rows, as a function of four sizes (three where no run repeats).

    `at` [n, d] are coordinates in decades, `shared` [n, n] how much of their runs two rows have in common
    (None where no run repeats), `weights` [n] at most 1 the trust in each row, `known` [n] the variance of
    noise that was measured. `unit` is the size of a response that a relative error of 1 means.
    """

    at: Array
    shared: Array | None
    weights: Array
    known: Array
    unit: float

    @cached_property
    def distance(self) -> Array:
        """Distances between all rows [n, n], in decades."""
        return distances(self.at, self.at)

    @property
    def prior(self) -> tuple[Array, Array]:
        """Mean and standard deviation of the logs of the sizes."""
        count = 3 if self.shared is None else 4
        scale = np.log(self.unit) * np.array([1.0, 0.0, 1.0, 1.0])
        return (_PRIOR_MEAN + scale)[:count], _PRIOR_SD[:count]

    def matrix(self, sizes: Array) -> Array:
        """The covariance [n, n] at the logs of the sizes."""
        size, length, row, *run = np.exp(sizes)
        covariance = size**2 * matern(self.distance, length)
        if self.shared is not None:
            covariance += run[0] ** 2 * self.shared
        covariance[np.diag_indices_from(covariance)] += self.known + self._noise(row) / self.weights
        return np.asarray(covariance, np.float64)

    def slopes(self, sizes: Array, against: Array) -> Array:
        """Sum over all entries of `against` [n, n] times the covariance's derivative, by the log of each size."""
        size, length, row, *run = np.exp(sizes)
        scaled = np.sqrt(3) * self.distance / length
        decay = np.exp(-scaled) * against
        slopes = [
            2 * size**2 * float(((1 + scaled) * decay).sum()),
            size**2 * float((scaled**2 * decay).sum()),
            2 * row**2 * float((np.diagonal(against) / self.weights).sum()),
        ]
        if self.shared is not None:
            slopes.append(2 * run[0] ** 2 * float((self.shared * against).sum()))
        return np.array(slopes)

    def _noise(self, row: float) -> float:
        return float(row**2 + (_LEAST * self.unit) ** 2)


@dataclass(frozen=True)
class Solved:
    """A covariance's Cholesky factor, and what follows for slopes J [n, p] of the law with prior precision [p].

    `across` is K^-1 J and `factor` the Cholesky factor of A = J' K^-1 J + precision, the inverse of the
    parameters' posterior covariance.
    """

    cholesky: Array
    across: Array
    factor: Array

    @classmethod
    def of(cls, covariance: Array, slopes: Array, precision: Array) -> Solved:
        """Cholesky factors of both matrices."""
        return cls._with(_cholesky(covariance), slopes, precision)

    def moved(self, slopes: Array, precision: Array) -> Solved:
        """The solution for other slopes of the law at the same covariance."""
        return self._with(self.cholesky, slopes, precision)

    @classmethod
    def _with(cls, cholesky: Array, slopes: Array, precision: Array) -> Solved:
        across = scipy.linalg.cho_solve((cholesky, True), slopes, check_finite=False)
        return cls(cholesky, across, _cholesky(slopes.T @ across + np.diag(precision)))

    def inverse(self, vectors: Array) -> Array:
        """K^-1 times vectors [n, ...]."""
        return np.asarray(scipy.linalg.cho_solve((self.cholesky, True), vectors, check_finite=False))

    def parameters(self, vectors: Array) -> Array:
        """A^-1 times vectors [p, ...]."""
        return np.asarray(scipy.linalg.cho_solve((self.factor, True), vectors, check_finite=False))


def likeliest(covariance: Covariance, residuals: Array, slopes: Array, precision: Array, start: Array) -> Array:
    """The logs of the sizes that maximise the restricted likelihood times the priors, searched from `start`.

    `residuals` [n] are of the law at its parameters' prior means, `slopes` [n, p] its derivatives.
    """
    mean, sd = covariance.prior
    scale = float(np.sqrt(np.mean(residuals**2)))
    high = np.log(np.maximum(3 * covariance.unit, 10 * scale))
    bounds = [(mean[k] - 8 * sd[k], max(high, mean[k])) for k in range(len(mean))]
    bounds[1] = (float(np.log(_LENGTHS[0])), float(np.log(_LENGTHS[1])))
    lows, highs = np.array(bounds).T

    def objective(sizes: Array) -> tuple[float, Array]:
        return _restricted(covariance, residuals, slopes, precision, sizes)

    found = scipy.optimize.minimize(
        objective,
        np.clip(start, lows, highs),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _STEPS, "ftol": 1e-9},
    )
    return np.asarray(found.x, np.float64)


def _restricted(
    covariance: Covariance, residuals: Array, slopes: Array, precision: Array, sizes: Array
) -> tuple[float, Array]:
    """Negative log of the restricted likelihood times the priors, less a constant, and its derivatives."""
    solved = Solved.of(covariance.matrix(sizes), slopes, precision)
    pulled = solved.inverse(residuals) - solved.across @ solved.parameters(solved.across.T @ residuals)
    mean, sd = covariance.prior
    away = (sizes - mean) / sd
    value = (
        0.5 * float(residuals @ pulled)
        + float(np.log(np.diagonal(solved.cholesky)).sum())
        + float(np.log(np.diagonal(solved.factor)).sum())
        + 0.5 * float(away @ away)
    )
    against = _inverse(solved.cholesky) - solved.across @ solved.parameters(solved.across.T)
    against -= np.outer(pulled, pulled)
    return value, 0.5 * covariance.slopes(sizes, against) + away / sd


def matern(distance: Array, length: float) -> Array:
    """The Matern correlation of smoothness 3/2 (Rasmussen and Williams, 2006, equation 4.17)."""
    scaled = np.sqrt(3) * distance / length
    return np.asarray((1 + scaled) * np.exp(-scaled))


def distances(first: Array, second: Array) -> Array:
    """Euclidean distances [m, n] of points [m, d] from points [n, d]."""
    squares = np.zeros((len(first), len(second)))
    for k in range(first.shape[1]):
        squares += (first[:, k, None] - second[None, :, k]) ** 2
    return np.sqrt(squares, out=squares)


def _cholesky(matrix: Array) -> Array:
    """The lower factor; a matrix that rounding has made singular gets the smallest ridge that helps."""
    size = float(np.diagonal(matrix).mean())
    for ridge in (0.0, 1e-14, 1e-12, 1e-10, 1e-8):
        ridged = matrix + ridge * size * np.eye(len(matrix)) if ridge else matrix
        try:
            return np.asarray(scipy.linalg.cholesky(ridged, lower=True, check_finite=False), np.float64)
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError("a covariance that is not positive definite")


def _inverse(cholesky: Array) -> Array:
    """The inverse of a matrix from its lower factor, at half the cost of `cho_solve` with the identity."""
    lower, _ = scipy.linalg.lapack.dpotri(cholesky, lower=1)
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T)
