"""What a grid could tell before anything is spent: studies of it are simulated, fitted and forecast as real ones are.

Every simulated study has the grid's runs, with noise that the losses of a trunk share and noise of each
loss; the laws are fitted to the means of the seeds, whole runs are resampled among replicates, and the
target's interval is that of a sealed forecast (`testbed.analysis.forecast.rule`), all of them at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.design.belief import Noise
from testbed.analysis.design.prior import draws, typical
from testbed.analysis.design.simulation import Fits, Planned, Simulator
from testbed.analysis.forecast.combination import combine
from testbed.analysis.laws import Law

Array = NDArray[np.float64]

STUDIES, RESAMPLES = 200, 100
_LEVEL, _POWER = 0.05, 0.8
_MANY = 1000  # studies for each difference that is tried
_TOLD = ("exponent", "constant")  # roles of parameters that are reported
_BISECTIONS, _WIDEST = 12, 3.0  # of the log of a ratio between two values, and where it starts


@dataclass(frozen=True)
class Told:
    """Of one parameter: median width of its interval and how often it held, and what can be told apart.

    `value` is the truth from which a difference is counted and `difference` the smallest upward one that 80 %
    of studies tell at level .05; None where they tell none.
    """

    name: str
    width: float
    covered: float
    value: float
    difference: float | None


@dataclass(frozen=True)
class Power:
    """What a grid could tell. `half_widths` [studies] are the target's (relative), `errors` [studies] the forecast's;
    both are empty where there is no target.
    """

    law: str
    level: float
    noise: Noise
    half_widths: Array
    errors: Array
    parameters: tuple[Told, ...]

    @property
    def covered(self) -> float:
        """Share of studies whose interval held the target's loss."""
        return float((np.abs(self.errors) <= self.half_widths).mean())

    def sentences(self) -> list[str]:
        """One a finding."""
        lines, level = [], f"{100 * self.level:.0f} %"
        if len(self.half_widths):
            low, high = np.quantile(self.half_widths, [0.1, 0.9])
            lines.append(
                f"the target's {level} interval: ±{100 * np.median(self.half_widths):.2g} % in the median study "
                f"({100 * low:.2g} to {100 * high:.2g} % in most), and {100 * self.covered:.0f} of 100 hold the outcome"
            )
        lines += [_in_words(told, self.law, level, self.noise) for told in self.parameters]
        return lines

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        target = None
        if len(self.half_widths):
            low, high = np.quantile(self.half_widths, [0.1, 0.9]).tolist()
            target = {
                "half_width": float(np.median(self.half_widths)),
                "most": [low, high],
                "covered": self.covered,
                "error": float(np.median(np.abs(self.errors))),
            }
        return {
            "law": self.law,
            "level": self.level,
            "noise": {"run": self.noise.run, "row": self.noise.row},
            "target": target,
            "parameters": {
                told.name: {
                    "width": told.width,
                    "covered": told.covered,
                    "value": told.value,
                    "difference": told.difference,
                }
                for told in self.parameters
            },
        }


def power(
    planned: Sequence[Planned],
    laws: Sequence[str],
    noise: Noise,
    *,
    target: Mapping[str, float] | None = None,
    target_seeds: int = 1,
    truth: tuple[Law, Mapping[str, float]] | None = None,
    delta: float = 0.01,
    level: float = 0.9,
    studies: int = STUDIES,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Power:
    """Simulate so many studies of a grid, under one truth or, where none is given, each under its draw from the prior.

    What parameters are told is of the first law. `delta` is the Huber width, `level` that of every interval.
    """
    rng = np.random.default_rng(seed)
    simulator = Simulator(planned, tuple(laws), noise, delta, None if target is None else dict(target))
    if truth is None:
        means = simulator.between(draws(studies, simulator.columns, seed), rng)
        middle = simulator.between(typical(simulator.columns), rng)
    else:
        middle = simulator.means(*truth)
        means = np.repeat(middle, studies, axis=0)
    fits = simulator.study(means, rng, resamples)
    half, error = _forecasts(fits, target_seeds, level, noise, rng) if target is not None else (np.empty(0),) * 2
    return Power(laws[0], level, noise, half, error, tuple(_told(simulator, fits, middle, level, seed)))


def _forecasts(
    fits: Sequence[Fits], seeds: int, level: float, noise: Noise, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Half-widths and errors [studies], in logs, of the forecast that would be sealed."""
    combined = combine([each.target for each in fits], [each.target_resamples for each in fits], fits[0].pooled, seeds)
    half = combined.half_width(level)
    observed = fits[0].truth + noise.single / math.sqrt(seeds) * rng.normal(size=len(half))
    return half, combined.centre - observed


def _told(simulator: Simulator, fits: Sequence[Fits], middle: Array, level: float, seed: int) -> list[Told]:
    """What is told of each exponent and constant of the first law."""
    law, first = simulator.laws[0], fits[0]
    low, high = np.quantile(first.resampled, [(1 - level) / 2, (1 + level) / 2], axis=1)
    found = []
    for k, parameter in enumerate(law.parameters):
        if parameter.role not in _TOLD:
            continue
        truth = first.true_parameters[:, k]
        value, difference = _smallest(simulator, middle, k, seed)
        found.append(
            Told(
                parameter.name,
                float(np.median(high[:, k] - low[:, k])),
                float(((low[:, k] <= truth) & (truth <= high[:, k])).mean()),
                value,
                difference,
            )
        )
    return found


def _smallest(simulator: Simulator, middle: Array, k: int, seed: int) -> tuple[float, float | None]:
    """A parameter's value in the typical truth, and the smallest difference upward that is told from it.

    The test rejects the value where the estimate is further from it than 95 % of estimates are when it is true.
    The amplitudes move along, so that the losses at the middle of the grid stay.
    """
    name, phi = simulator.laws[0].parameters[k].name, simulator.nearest(0, middle)
    value = float(simulator.natural(0, phi)[0, k])
    estimates = simulator.estimates(phi, _MANY, seed)[:, k]
    critical = float(np.quantile(np.abs(estimates - value), 1 - _LEVEL))

    def told(ratio: float) -> bool:
        moved = simulator.moved(0, phi, name, value * math.exp(ratio))
        return float((np.abs(simulator.estimates(moved, _MANY, seed + 1)[:, k] - value) > critical).mean()) >= _POWER

    low, high = 0.0, _WIDEST
    if not told(high):
        return value, None
    for _ in range(_BISECTIONS):
        half = (low + high) / 2
        low, high = (low, half) if told(half) else (half, high)
        if value * (math.exp(high) - math.exp(low)) < 0.02 * value * math.expm1(high):
            break
    return value, value * math.expm1(high)


def _in_words(told: Told, law: str, level: str, noise: Noise) -> str:
    head = (
        f"{told.name} of {law}: {level} interval {told.width:.2g} wide in the median study, holds the truth in "
        f"{100 * told.covered:.0f} of 100"
    )
    at = f"at a noise of {100 * noise.single:.2g} %"
    if told.difference is None:
        return f"{head}; cannot tell {told.value:.3g} from {told.value * math.exp(_WIDEST):.3g} {at}"
    return (
        f"{head}; cannot tell {told.value:.3g} from anything below {told.value + told.difference:.3g} {at} "
        f"({100 * _POWER:.0f} % power, level {_LEVEL:g})"
    )
