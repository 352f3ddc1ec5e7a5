"""Many simulated studies of one grid at once: their losses, the laws fitted to them, and to resampled runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.design.belief import Noise
from testbed.analysis.design.prior import as_law, check_columns, log_losses
from testbed.analysis.fit.coordinates import Coordinates
from testbed.analysis.fit.problem import Problem
from testbed.analysis.laws import Law, find_law
from testbed.errors import ConfigError

Array = NDArray[np.float64]


class Planned(NamedTuple):
    """The runs of one rung: N, horizons in tokens, training FLOPs per token, and the number of seeds."""

    n: float
    tokens: tuple[float, ...]
    flops_per_token: float
    seeds: int


@dataclass(frozen=True)
class Fits:
    """One law fitted to every study.

    `parameters` [studies, p] and the log prediction of the target `target` [studies], each with its resamples [studies,
    resamples, ...], whose spread is inflated for the finite number of seeds, and its truth (`true_parameters`, `truth`);
    `pooled` [studies] is the noise between seeds.
    """

    parameters: Array
    resampled: Array
    true_parameters: Array
    target: Array
    target_resamples: Array
    truth: Array
    pooled: Array


@dataclass(frozen=True)
class Simulator:
    """Simulates studies of a grid: runs with noise, and laws fitted to the mean log loss of each cell's seeds.

    `delta` is the Huber width; `target` is n, tokens and flops of the run that is forecast.
    """

    planned: Sequence[Planned]
    names: tuple[str, ...]
    noise: Noise
    delta: float
    target: Mapping[str, float] | None = None
    laws: tuple[Law, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "laws", tuple(find_law(name) for name in self.names))
        for law in self.laws:
            check_columns(law)
            if len(law.parameters) >= len(self.columns["n"]):
                raise ConfigError(
                    f"the grid has {len(self.columns['n'])} cells for the {len(law.parameters)} parameters of {law.name}; "
                    "give more widths or horizons"
                )
        if min(rung.seeds for rung in self.planned) < 2:
            raise ConfigError("a run without a second seed shows no noise; give grid.init_seeds two or more")

    @cached_property
    def columns(self) -> dict[str, Array]:
        """n, tokens and flops of every cell [cells]."""
        n = np.repeat([rung.n for rung in self.planned], [len(rung.tokens) for rung in self.planned])
        tokens = np.concatenate([rung.tokens for rung in self.planned])
        per_token = np.repeat([rung.flops_per_token for rung in self.planned], [len(r.tokens) for r in self.planned])
        return {"n": n, "tokens": tokens, "flops": per_token * tokens}

    @cached_property
    def _everywhere(self) -> dict[str, Array]:
        """The columns of the cells and, last, of the target."""
        if self.target is None:
            return self.columns
        return {name: np.append(values, self.target[name]) for name, values in self.columns.items()}

    def means(self, law: Law, theta: Mapping[str, float]) -> Array:
        """Mean log losses [1, cells and target] under a law with these parameters."""
        check_columns(law)
        at = law.prepare({name: self._everywhere[name] for name in law.columns})
        return np.asarray(np.log(law.value({name: np.array([[value]]) for name, value in theta.items()}, at)))

    def between(self, theta: Mapping[str, Array], rng: np.random.Generator) -> Array:
        """Mean log losses [B, cells and target] under additive laws `theta` at the cells, and between the laws at the target.

        Laws that agree within a grid differ beyond it, and the interval of several laws assumes that the target lies
        anywhere between them, evenly likely.
        """
        means = log_losses(theta, self._everywhere)
        if self.target is None or len(self.laws) == 1:
            return means
        beyond = []
        for k, law in enumerate(self.laws):
            at = law.prepare({name: np.array([self.target[name]]) for name in law.columns})
            beyond.append(self._problem(k)[0].response(self.nearest(k, means), at)[:, 0])
        low, high = np.min(beyond, axis=0), np.max(beyond, axis=0)
        means[:, -1] = low + rng.random(len(low)) * (high - low)
        return means

    def study(self, means: Array, rng: np.random.Generator, resamples: int) -> tuple[Fits, ...]:
        """Each law fitted to simulated studies, one for each row of means [studies, cells and target]."""
        cells = len(self.columns["n"])
        losses, pooled, drawn = self._losses(means[:, :cells], rng, resamples)
        fewest = min(rung.seeds for rung in self.planned)
        inflation = math.sqrt(fewest / (fewest - 1))
        return tuple(self._fitted(k, means, losses, pooled, drawn, inflation) for k in range(len(self.laws)))

    def nearest(self, k: int, means: Array) -> Array:
        """Coordinates [B, p] of the k-th law that fit mean log losses [B, cells and target] best at the cells."""
        return as_law(self.laws[k], means[:, : len(self.columns["n"])], self.columns, self._problem(k)[0])

    def natural(self, k: int, phi: Array) -> Array:
        """Parameters [B, all] of the k-th law at coordinates [B, p]."""
        return self._problem(k)[0].natural(phi)

    def moved(self, k: int, phi: Array, name: str, value: float) -> Array:
        """Coordinates [B, p] with one parameter at another value, and the same losses at the middle of the grid."""
        coordinates = self._problem(k)[0]
        held = replace(coordinates, fixed={name: value})
        others = [i for i, p in enumerate(coordinates.free) if p.name != name]
        return coordinates.coordinates({n: v[:, 0] for n, v in held.parameters(phi[:, others]).items()})

    def estimates(self, phi: Array, studies: int, seed: int) -> Array:
        """Parameters [studies, all] of the first law, fitted to studies of which it is the truth, at coordinates phi [1, p]."""
        cells = len(self.columns["n"])
        coordinates, problem = self._problem(0)
        means = np.repeat(coordinates.response(phi, problem.columns), studies, axis=0)
        losses, _, _ = self._losses(means[:, :cells], np.random.default_rng(seed), 0)
        found = problem.solve(losses, np.ones_like(losses), np.repeat(phi, studies, axis=0))
        return coordinates.natural(found.phi)

    def _losses(self, means: Array, rng: np.random.Generator, resamples: int) -> tuple[Array, Array, Array]:
        """Means over seeds [studies, cells], pooled noise [studies], and means of resampled runs [studies, resamples, cells]."""
        studies, cells = means.shape
        losses, drawn = np.empty((studies, cells)), np.empty((studies, resamples, cells))
        squares, freedom, first = np.zeros(studies), 0, 0
        for rung in self.planned:
            here = slice(first, first + len(rung.tokens))
            shape = (studies, rung.seeds, len(rung.tokens))
            noise = self.noise.run * rng.normal(size=(*shape[:2], 1)) + self.noise.row * rng.normal(size=shape)
            each = means[:, None, here] + noise
            losses[:, here] = each.mean(axis=1)
            squares += ((each - losses[:, None, here]) ** 2).sum(axis=(1, 2))
            freedom += (rung.seeds - 1) * len(rung.tokens)
            if resamples:
                times = rng.multinomial(rung.seeds, np.full(rung.seeds, 1 / rung.seeds), size=(studies, resamples))
                drawn[:, :, here] = times @ each / rung.seeds
            first = here.stop
        return losses, np.sqrt(squares / freedom), drawn

    def _fitted(self, k: int, means: Array, losses: Array, pooled: Array, drawn: Array, inflation: float) -> Fits:
        coordinates, problem = self._problem(k)
        truth = self.nearest(k, means)
        found = problem.solve(losses, np.ones_like(losses), truth).phi
        studies, resamples, cells = drawn.shape
        flat = drawn.reshape(-1, cells)
        again = problem.solve(flat, np.ones_like(flat), np.repeat(found, resamples, axis=0)).phi
        parameters = coordinates.natural(found)
        resampled = coordinates.natural(again).reshape(studies, resamples, -1)
        target, spread = np.zeros(studies), np.zeros((studies, resamples))
        if self.target is not None:
            law = self.laws[k]
            at = law.prepare({name: np.array([self.target[name]]) for name in law.columns})
            target = coordinates.response(found, at)[:, 0]
            spread = coordinates.response(again, at)[:, 0].reshape(studies, resamples) - target[:, None]
        return Fits(
            parameters=parameters,
            resampled=parameters[:, None] + inflation * (resampled - parameters[:, None]),
            true_parameters=coordinates.natural(truth),
            target=target,
            target_resamples=target[:, None] + inflation * spread,
            truth=means[:, -1],
            pooled=pooled,
        )

    def _problem(self, k: int) -> tuple[Coordinates, Problem]:
        """The k-th law on the grid's cells."""
        law = self.laws[k]
        prepared = law.prepare({name: self.columns[name] for name in law.columns})
        coordinates = Coordinates.of(law, prepared, np.zeros(len(self.columns["n"])), "log")
        return coordinates, Problem(coordinates, prepared, "huber", self.delta)
