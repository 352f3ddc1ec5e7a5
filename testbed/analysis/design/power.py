"""The statistical power of a grid, before anything is spent: simulated studies, fitted and forecast as real ones are.

Each simulated study has the grid's runs, with noise that the losses of a trunk share and noise of each loss. The laws
are fitted to the means of the seeds, whole runs are resampled among replicates, and the target's interval is that of
a sealed forecast (`testbed.analysis.forecast.combination`).
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
_STUDIES_A_DIFFERENCE = 1000  # simulated for each difference that is tried
_REPORTED = ("exponent", "constant")  # roles of the parameters that are reported
_BISECTIONS, _WIDEST = 12, 3.0  # of the log of the ratio of two values: how many at most, and the widest


@dataclass(frozen=True)
class ParameterPower:
    """How well studies of a grid determine one parameter.

    `width` is the median width of its interval, `covered` the share of intervals that hold the truth. `difference` is the
    smallest increase from `value` that 80 % of studies detect at level .05; None where they detect none.
    """

    name: str
    width: float
    covered: float
    value: float
    difference: float | None


@dataclass(frozen=True)
class Power:
    """How much studies of a grid would find out about the target and about a law's parameters.

    `half_widths` and `errors` [studies] are relative: of the target's interval of `level`, and of the forecast. Both are
    empty where there is no target.
    """

    law: str
    level: float
    noise: Noise
    half_widths: Array
    errors: Array
    parameters: tuple[ParameterPower, ...]

    @property
    def covered(self) -> float:
        """The share of studies whose interval held the target's loss."""
        return float((np.abs(self.errors) <= self.half_widths).mean())

    def sentences(self) -> list[str]:
        """The findings, one a sentence."""
        lines, level = [], f"{100 * self.level:.0f} %"
        if len(self.half_widths):
            low, high = np.quantile(self.half_widths, [0.1, 0.9])
            lines.append(
                f"the target's {level} interval: ±{100 * np.median(self.half_widths):.2g} % in the median study "
                f"({100 * low:.2g} to {100 * high:.2g} % in most), and it holds the outcome in {100 * self.covered:.0f} of 100"
            )
        lines += [_sentence(found, self.law, level, self.noise) for found in self.parameters]
        return lines

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON values."""
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
                found.name: {
                    "width": found.width,
                    "covered": found.covered,
                    "value": found.value,
                    "difference": found.difference,
                }
                for found in self.parameters
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
    """Simulate `studies` studies of a grid, under one truth, or each under a truth of its own drawn from the prior.

    `planned` are the grid's rungs, `noise` is that of its runs, `target` n, tokens and flops of the run to forecast, and
    `truth` a law with its parameters. The parameters reported are the first law's. `delta` is the Huber width on log
    loss, `level` that of every interval. Same arguments, same result.

    Raises:
        ConfigError: A law needs other columns than n, tokens and flops, or the grid has no more cells than the law has
            parameters, or a rung has a single seed.

    >>> from testbed.analysis.design import Noise
    >>> from testbed.analysis.design.simulation import Planned
    >>> rungs = [Planned(n, (1e8, 3e8, 1e9), 6 * n, seeds=3) for n in (1e6, 3e6, 1e7)]
    >>> target = {"n": 3e7, "tokens": 3e9, "flops": 5.4e17}
    >>> found = power(rungs, ["hoffmann"], Noise(run=0.002, row=0.001), target=target, studies=20, resamples=20)
    >>> [parameter.name for parameter in found.parameters]
    ['E', 'alpha', 'beta']
    >>> bool(0 < found.covered <= 1)
    True
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
    return Power(laws[0], level, noise, half, error, tuple(_parameters(simulator, fits, middle, level, seed)))


def _forecasts(
    fits: Sequence[Fits], seeds: int, level: float, noise: Noise, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Half-widths and errors [studies], in logs, of the forecasts that would be sealed."""
    combined = combine([each.target for each in fits], [each.target_resamples for each in fits], fits[0].pooled, seeds)
    half = combined.half_width(level)
    observed = fits[0].truth + noise.single / math.sqrt(seeds) * rng.normal(size=len(half))
    return half, combined.centre - observed


def _parameters(
    simulator: Simulator, fits: Sequence[Fits], middle: Array, level: float, seed: int
) -> list[ParameterPower]:
    """The power of the studies for each exponent and constant of the first law."""
    law, first = simulator.laws[0], fits[0]
    low, high = np.quantile(first.resampled, [(1 - level) / 2, (1 + level) / 2], axis=1)
    found = []
    for k, parameter in enumerate(law.parameters):
        if parameter.role not in _REPORTED:
            continue
        truth = first.true_parameters[:, k]
        value, difference = _smallest(simulator, middle, k, seed)
        found.append(
            ParameterPower(
                parameter.name,
                float(np.median(high[:, k] - low[:, k])),
                float(((low[:, k] <= truth) & (truth <= high[:, k])).mean()),
                value,
                difference,
            )
        )
    return found


def _smallest(simulator: Simulator, middle: Array, k: int, seed: int) -> tuple[float, float | None]:
    """A parameter's value in the typical truth, and the smallest increase from it that studies detect.

    The test rejects the value where the estimate is further from it than 95 % of estimates are when it is true. The
    amplitudes move along, so that the losses at the middle of the grid stay.
    """
    name, phi = simulator.laws[0].parameters[k].name, simulator.nearest(0, middle)
    value = float(simulator.natural(0, phi)[0, k])
    estimates = simulator.estimates(phi, _STUDIES_A_DIFFERENCE, seed)[:, k]
    critical = float(np.quantile(np.abs(estimates - value), 1 - _LEVEL))

    def detected(ratio: float) -> bool:
        moved = simulator.moved(0, phi, name, value * math.exp(ratio))
        return (
            float((np.abs(simulator.estimates(moved, _STUDIES_A_DIFFERENCE, seed + 1)[:, k] - value) > critical).mean())
            >= _POWER
        )

    low, high = 0.0, _WIDEST
    if not detected(high):
        return value, None
    for _ in range(_BISECTIONS):
        half = (low + high) / 2
        low, high = (low, half) if detected(half) else (half, high)
        if value * (math.exp(high) - math.exp(low)) < 0.02 * value * math.expm1(high):
            break
    return value, value * math.expm1(high)


def _sentence(found: ParameterPower, law: str, level: str, noise: Noise) -> str:
    head = (
        f"{found.name} of {law}: {level} interval {found.width:.2g} wide in the median study, which holds the truth in "
        f"{100 * found.covered:.0f} of 100"
    )
    at = f"at a noise of {100 * noise.single:.2g} %"
    if found.difference is None:
        return f"{head}; cannot tell {found.value:.3g} from {found.value * math.exp(_WIDEST):.3g} {at}"
    return (
        f"{head}; cannot tell {found.value:.3g} from anything below {found.value + found.difference:.3g} {at} "
        f"({100 * _POWER:.0f} % power, level {_LEVEL:g})"
    )
