"""The belief before the first run: about a law's parameters, its misfit, and the noise of runs.

The parameters of the additive law scatter about those of published tables. Amplitudes do not carry over between token
counts and vocabularies; the shares of the N-term and the D-term in the loss at the middle of a table's runs do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.design.belief import Belief, Noise
from testbed.analysis.design.candidates import Candidates
from testbed.analysis.fit.coordinates import Coordinates
from testbed.analysis.fit.prediction.discrepancy import distances, matern
from testbed.analysis.fit.problem import Problem
from testbed.analysis.laws import Law, find_law
from testbed.errors import ConfigError

Array = NDArray[np.float64]

# alpha, beta, and the shares of the N-term and the D-term at the middle (mean logarithms) of the runs: exact Huber
# optima, delta 1e-3, of published tables of runs; of each publication the table that its authors fitted.
PUBLISHED: Mapping[str, tuple[float, float, float, float]] = {
    "Hoffmann et al., as read by Besiroglu et al. (arXiv:2404.10102)": (0.347, 0.367, 0.147, 0.146),
    "Gadre et al., C4 (arXiv:2403.08540)": (0.253, 0.262, 0.332, 0.197),
    "Gadre et al., RedPajama": (0.243, 0.273, 0.333, 0.178),
    "Gadre et al., RefinedWeb": (0.223, 0.290, 0.354, 0.159),
    "McLeish et al., cooled down (arXiv:2502.06857)": (0.280, 0.627, 0.227, 0.055),
    "Porian et al., OpenWebText2, long warm-up (arXiv:2406.19146)": (0.353, 0.552, 0.204, 0.272),
    "Porian et al., OpenWebText2, tuned": (0.636, 0.649, 0.048, 0.164),
    "Porian et al., RefinedWeb, cosine": (0.391, 0.553, 0.153, 0.181),
    "Porian et al., RefinedWeb, tuned": (0.630, 0.708, 0.052, 0.119),
    "Muennighoff et al., one epoch (arXiv:2305.16264)": (0.697, 0.262, 0.058, 0.285),
}
_WIDER = 1.5  # times the published spread, since the next table is not one of those ten
_LARGEST_SHARE = 0.9  # of both terms together in the loss; the rest is irreducible

# Noise between seeds of configs/quick.toml and configs/quick_synthetic.toml (see configs/measured)
MEASURED: Mapping[str, Noise] = {
    "quick": Noise(run=0.0055, row=0.0037),
    "quick_synthetic": Noise(run=0.0024, row=0.0018),
}
MISFIT, LENGTH = 0.01, 1.5  # size (relative) and length (decades): the means of the kriging's priors
ADDITIVE = "hoffmann"  # the law whose parameters the prior is about
# Standard deviations of the parameters in the solver's coordinates: wide, since a study's fits have no priors
_SD = {"amplitude": 3.0, "constant": 1.0, "exponent": 1.0, "scale": 2.0, "fraction": 2.0}


def noise_of(known_entropy: bool) -> tuple[Noise, str]:
    """The noise of runs on data where none was measured yet, and the study that it was measured in.

    Runs on a synthetic language, whose entropy is known, scatter less than runs on text.
    """
    study = "quick_synthetic" if known_entropy else "quick"
    return MEASURED[study], study


def noise_between(points: pd.DataFrame, n: str) -> Noise | None:
    """The noise between runs that differ in their seeds alone, from a points table with N in column `n`; None without any.

    The covariance of two losses of one run, each less its cell's mean over the seeds, is the run's share.
    """
    y = np.log(points["loss"])
    cells = points.groupby([n, "tokens"])["loss"]
    seeds = cells.transform("size")
    table = points.assign(
        off=(y - y.groupby([points[n], points["tokens"]]).transform("mean")) * np.sqrt(seeds / (seeds - 1))
    )
    table = table[seeds > 1]
    if table.empty:
        return None
    total = float((table["off"] ** 2).mean())
    runs = table.groupby("run")["off"]
    pairs = float((runs.size() * (runs.size() - 1)).sum())
    common = float((runs.sum() ** 2 - runs.apply(lambda off: float((off**2).sum()))).sum()) / pairs if pairs else 0.0
    shared = min(max(common, 0.0), total)
    return Noise(float(np.sqrt(shared)), float(np.sqrt(total - shared)))


def draws(count: int, columns: Mapping[str, Array], seed: int = 0) -> dict[str, Array]:
    """Draws of the additive law's parameters, each [count], with a loss of 1 at the middle of `columns` (n and tokens)."""
    known = np.log(np.array(list(PUBLISHED.values())))
    rng = np.random.default_rng(seed)
    spread = _WIDER**2 * np.cov(known.T)
    return _parameters(rng.multivariate_normal(known.mean(axis=0), spread, size=count, method="cholesky"), columns)


def typical(columns: Mapping[str, Array]) -> dict[str, Array]:
    """The additive law's parameters at the middle of the prior, each [1]."""
    return _parameters(np.log(np.array(list(PUBLISHED.values()))).mean(axis=0, keepdims=True), columns)


def _parameters(logs: Array, columns: Mapping[str, Array]) -> dict[str, Array]:
    """The parameters from the logs [count, 4] of both exponents and both shares."""
    alpha, beta, size, data = np.exp(logs).T
    shrink = np.minimum(1.0, _LARGEST_SHARE / (size + data))
    n, tokens = (float(np.log(columns[name]).mean()) for name in ("n", "tokens"))
    return {
        "A": shrink * size * np.exp(alpha * n),
        "B": shrink * data * np.exp(beta * tokens),
        "E": 1 - shrink * (size + data),
        "alpha": alpha,
        "beta": beta,
    }


def prior_belief(
    laws: Sequence[str],
    candidates: Candidates,
    target: Mapping[str, float],
    noise: Noise,
    seeds: int = 1,
    count: int = 12,
    truth: Mapping[str, Array] | None = None,
    misfit: float = MISFIT,
    seed: int = 0,
) -> Belief:
    """The belief about candidates and a target (n, tokens, flops) before any run; the target is a mean of `seeds` runs.

    Each law has the same `count` draws of the truth: parameters of the additive law [count], `truth` if it is given.
    `misfit` is the relative size of the laws' smooth misfit.
    """
    cells = candidates.columns
    columns = {name: np.append(cells[name], target[name]) for name in cells}
    truth = draws(count, cells, seed) if truth is None else truth
    smooth = _misfit(columns, misfit)
    parts = [_by_parameters(find_law(name), truth, columns) for name in laws]
    return Belief(
        covariance=np.concatenate(parts) + smooth,
        compute=np.log10(6 * columns["n"] * columns["tokens"]),  # as predictions count it
        reached=-np.inf,
        noise=noise,
        new=noise.single**2 / seeds,
    )


def log_losses(truth: Mapping[str, Array], columns: Mapping[str, Array]) -> Array:
    """The log losses [B, m] of additive laws with parameters [B]."""
    given = {name: np.asarray(value, np.float64).reshape(-1, 1) for name, value in truth.items()}
    return np.asarray(np.log(find_law(ADDITIVE).value(given, columns)))


def as_law(law: Law, y: Array, columns: Mapping[str, Array], coordinates: Coordinates) -> Array:
    """The coordinates [B, p] of `law` that fit log losses y [B, m] at columns [m] best, by least squares."""
    check_columns(law)
    prepared = law.prepare({name: columns[name] for name in law.columns})
    problem = Problem(coordinates, prepared, "ls", 1.0)
    start, _ = problem.best(np.median(y, axis=0))
    return problem.solve(y, np.ones_like(y), np.repeat(start.phi, len(y), axis=0)).phi


def check_columns(law: Law) -> None:
    """Refuse a law that candidates do not determine.

    Raises:
        ConfigError: It needs other columns than n, tokens and flops, or is not of a log loss.
    """
    missing = [name for name in law.columns if name not in ("n", "tokens", "flops")]
    if missing or law.space != "log":
        lacking = f"needs {', '.join(missing)}" if missing else f"is of {law.response}, not of a log loss"
        raise ConfigError(
            f"{law.name}: runs are chosen by their N, D and FLOPs, and this law {lacking}; take one of n, tokens or flops, "
            "for example hoffmann"
        )


def _by_parameters(law: Law, truth: Mapping[str, Array], columns: Mapping[str, Array]) -> Array:
    """The covariance [B, m + 1, m + 1] of the mean response that comes from the wide prior of the parameters."""
    check_columns(law)
    prepared = law.prepare({name: columns[name] for name in law.columns})
    y = log_losses(truth, columns)
    coordinates = Coordinates.of(law, prepared, np.median(y, axis=0), "log")
    exact = law.name == ADDITIVE
    phi = coordinates.coordinates(truth) if exact else as_law(law, y, columns, coordinates)
    slopes = coordinates.slopes(phi, prepared)
    sd = np.array([_SD.get(p.role, p.start[1] - p.start[0]) for p in coordinates.free])
    scaled = slopes * sd[:, None]
    return np.asarray(scaled.transpose(0, 2, 1) @ scaled)


def _misfit(columns: Mapping[str, Array], size: float) -> Array:
    at = np.log10(np.stack([columns["n"], columns["tokens"]], axis=1))
    return size**2 * matern(distances(at, at), LENGTH)
