"""Suggesting the next runs: which ones, at what cost, and the interval of the target to expect after each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.design.belief import Belief, Noise
from testbed.analysis.design.candidates import Candidates, Option, lattice
from testbed.analysis.design.choice import largest_run, one_by_one
from testbed.analysis.design.posterior import posterior_belief
from testbed.analysis.design.prior import check_columns, prior_belief
from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.fit.diagnostics import carried
from testbed.analysis.fit.prediction.predict import student
from testbed.analysis.laws import find_law
from testbed.errors import ConfigError
from testbed.points import fit_columns, map_columns

Array = NDArray[np.float64]

SHARE = 0.1  # of the target's FLOPs: the budget where none is given
_RATIO_DECADES = 0.3  # of D/N beyond those of the table and the target, up to which a run is like them


@dataclass(frozen=True)
class Suggestion:
    """One run, to be trained with `seeds` seeds: its rung's name and N, its horizons in tokens, and FLOPs of all seeds.

    `half_width` is that of the target's interval, relative, once this run and those before it are done.
    """

    name: int
    n: float
    tokens: tuple[float, ...]
    seeds: int
    flops: float
    half_width: float


@dataclass(frozen=True)
class Suggestions:
    """The suggested runs, those that narrow the target's interval most for their cost first.

    `half_width` is that of the target's interval of `level` as it is now, relative; `least` is what the noise of the
    target's own runs leaves of it. `predicted` is the target's loss, None before the first run.
    """

    law: str
    target: Mapping[str, float]
    level: float
    predicted: float | None
    half_width: float
    least: float
    budget: float
    runs: tuple[Suggestion, ...]

    @property
    def flops(self) -> float:
        """The training FLOPs of all suggested runs."""
        return sum(run.flops for run in self.runs)

    @property
    def after(self) -> float:
        """The expected relative half-width once all suggested runs are done."""
        return self.runs[-1].half_width if self.runs else self.half_width

    def to_dict(self) -> dict[str, Any]:
        """The suggestions as plain JSON values; half-widths are relative."""
        return {
            "law": self.law,
            "from": "prior" if self.predicted is None else "fit",
            "target": dict(self.target),
            "level": self.level,
            "predicted": self.predicted,
            "half_width": self.half_width,
            "half_width_after": self.after,
            "half_width_least": self.least,
            "budget": self.budget,
            "flops": self.flops,
            "runs": [
                {
                    "rung": run.name,
                    "n": run.n,
                    "tokens": list(run.tokens),
                    "seeds": run.seeds,
                    "flops": run.flops,
                    "half_width_after": run.half_width,
                }
                for run in self.runs
            ],
        }


def suggest_from_fit(
    fit: Fit,
    candidates: Candidates,
    target: Mapping[str, float],
    *,
    budget: float | None = None,
    runs: int = 4,
    level: float = 0.9,
    seeds: int = 1,
    unit: str = "nats",
) -> Suggestions:
    """The next runs for a target (n, tokens, flops), given a fit to the runs so far.

    `budget` is in training FLOPs, a tenth of the target's if not given; at most `runs` runs are suggested. The target will
    be a mean of `seeds` runs; `level` is that of its interval, `unit` that of the losses ("nats" or "bits").

    Raises:
        ConfigError: The law needs other columns than n, tokens and flops, or no candidate fits the budget.
    """
    known = posterior_belief(fit, candidates, target, unit=unit, seeds=seeds)
    kind = {name: values for name, values in fit.rows.columns.items() if name in ("n", "tokens")}
    options = _alike(candidates, kind, target)
    return _suggest(
        fit.law.name, float(known.prediction.mean[0]), known.belief, candidates, options, target, budget, runs, level
    )


def suggest_from_prior(
    laws: Sequence[str],
    candidates: Candidates,
    target: Mapping[str, float],
    noise: Noise,
    *,
    budget: float | None = None,
    runs: int = 4,
    level: float = 0.9,
    seeds: int = 1,
) -> Suggestions:
    """The first runs for a target, from the belief before any run (see `prior`); arguments as in `suggest_from_fit`."""
    belief = prior_belief(laws, candidates, target, noise, seeds)
    options = candidates.options(largest_run(target["flops"]))
    return _suggest(", ".join(laws), None, belief, candidates, options, target, budget, runs, level)


def suggest_for_table(
    raw: pd.DataFrame,
    columns: Mapping[str, str],
    where: str,
    law: str,
    delta: float,
    target: Mapping[str, float],
    budget: float | None,
    runs: int,
    level: float,
) -> tuple[Suggestions, list[str]]:
    """The next runs for a target (n, tokens) of anyone's table, and the assumptions behind them, in sentences.

    `columns` maps n, tokens and loss to the table's columns where it calls them otherwise; `where` names the table in
    messages; `delta` is the Huber width on log loss. The other arguments are those of `suggest_from_fit`.

    >>> runs = pd.DataFrame([(n, d) for n in (1e6, 3e6, 1e7) for d in (1e8, 3e8, 1e9)], columns=["n", "tokens"])
    >>> runs["loss"] = 1.8 + 480 / runs["n"] ** 0.35 + 2000 / runs["tokens"] ** 0.37
    >>> target = {"n": 1e8, "tokens": 1e10}
    >>> found, _ = suggest_for_table(runs, {}, "the table", "hoffmann", 1e-3, target, None, 2, 0.9)
    >>> len(found.runs) <= 2, found.flops <= found.budget, bool(found.after < found.half_width)
    (True, True, True)
    """
    check_columns(find_law(law))
    fit = fit_law(law, raw, columns=columns, delta=delta, n_boot=0, where=where)
    mapping = map_columns(raw, ("n", "tokens"), {k: v for k, v in columns.items() if k in ("n", "tokens")}, where)
    known = fit_columns(raw, mapping, where, ("n", "tokens"))
    full = {"n": target["n"], "tokens": target["tokens"], "flops": 6 * target["n"] * target["tokens"]}
    candidates = lattice(
        {name: known[name].to_numpy(np.float64) for name in ("n", "tokens")}, full["n"], full["tokens"]
    )
    found = suggest_from_fit(fit, candidates, full, budget=budget, runs=runs, level=level)
    return found, [
        f"{where}: {fit.nobs} points of {fit.n_runs} runs, {law}; every suggested run stands alone and takes 6 N D FLOPs, at "
        "most half of the target's",
        *(f"{finding.code}: {finding.message}" for finding in carried(fit)),
    ]


def _suggest(
    law: str,
    predicted: float | None,
    belief: Belief,
    candidates: Candidates,
    options: Sequence[Option],
    target: Mapping[str, float],
    budget: float | None,
    runs: int,
    level: float,
) -> Suggestions:
    if runs < 1:
        raise ConfigError(f"runs: found {runs}; accepted: 1 or more")
    budget = SHARE * target["flops"] if budget is None else budget
    cheapest = min(option.flops for option in options)
    if budget < cheapest:
        raise ConfigError(
            f"budget: {budget:.3g} FLOPs are less than the cheapest candidate run takes ({cheapest:.3g}); raise it"
        )
    times = student(level)
    found, now = [], belief
    for option, count in _counted(one_by_one(belief, options, budget, runs)):
        now = now.after(option, count)
        found.append(
            Suggestion(
                name=candidates.names[option.rung],
                n=float(candidates.n[option.rung]),
                tokens=tuple(float(candidates.tokens[option.rung, h]) for h in option.horizons),
                seeds=count,
                flops=option.flops * count,
                half_width=_relative(times * now.sd),
            )
        )
    return Suggestions(
        law=law,
        target=target,
        level=level,
        predicted=predicted,
        half_width=_relative(times * belief.sd),
        least=_relative(times * float(np.sqrt(belief.new))),
        budget=budget,
        runs=tuple(found),
    )


def _alike(candidates: Candidates, kind: Mapping[str, Array], target: Mapping[str, float]) -> list[Option]:
    """The options whose tokens per parameter are within the range of the fitted rows and the target, or near it."""
    options = candidates.options(largest_run(target["flops"]))
    if len(kind) < 2:
        return list(options)
    fitted = np.log10(np.append(kind["tokens"] / kind["n"], target["tokens"] / target["n"]))
    cells = candidates.columns
    ratio = np.log10(cells["tokens"] / cells["n"])
    inside = (ratio >= fitted.min() - _RATIO_DECADES) & (ratio <= fitted.max() + _RATIO_DECADES)
    alike = [option for option in options if inside[list(option.cells)].all()]
    if not alike:
        raise ConfigError(
            "no candidate run has tokens per parameter like those of the table or the target; give another target"
        )
    return alike


def _counted(options: Sequence[Option]) -> list[tuple[Option, int]]:
    """Each option once, in the order of first appearance, with the number of times it appears."""
    counts: dict[Option, int] = {}
    for option in options:
        counts[option] = counts.get(option, 0) + 1
    return list(counts.items())


def _relative(half: float) -> float:
    """A half-width in logs as a share of the prediction, above it."""
    return float(np.expm1(half))
