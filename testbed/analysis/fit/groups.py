"""One fit a group of a table's rows: each by itself, or with some parameters shared and the others each group's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit.diagnostics import Finding
from testbed.analysis.fit.diagnostics.differences import rows_differ
from testbed.analysis.fit.diagnostics.far_rows import far_rows
from testbed.analysis.fit.diagnostics.identification import unidentified
from testbed.analysis.fit.diagnostics.unfinished import unfinished
from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.result import Fit
from testbed.analysis.fit.shared_law import GROUP, SharedLaw
from testbed.analysis.laws import Law, find_law
from testbed.errors import ConfigError, TableError
from testbed.points.numbers import column_of

Array = NDArray[np.float64]

_MOST = 60  # groups
_STARTS = 3  # of the shared parameters, from groups fitted by themselves


@dataclass(frozen=True, eq=False)
class GroupedFit:
    """A fit for each value of the column `by`; `refused` has the groups that cannot be fitted, with the reason.

    With `shared` parameters `joint` is the one fit of all rows, in which every other parameter has a value for each
    group, and the fits in `fits` are its parts: the shared parameters and resamples are the same in all of them.
    """

    by: str
    shared: tuple[str, ...]
    fits: dict[str, Fit]
    refused: dict[str, str]
    joint: Fit | None = None

    @property
    def params(self) -> pd.DataFrame:
        """The parameters in natural units [groups, parameters]."""
        return pd.DataFrame({name: fit.theta for name, fit in self.fits.items()}).T.rename_axis(self.by)

    def table(self, level: float = 0.9) -> pd.DataFrame:
        """A row a group: its value, points, runs, and each parameter with the ends of its interval (_low, _high)."""
        return pd.DataFrame([self._row(name, fit, level) for name, fit in self.fits.items()])

    def diagnostics(self, raw: pd.DataFrame) -> dict[str, tuple[Finding, ...]]:
        """The findings of each group, or of the joint fit under "all groups"; `raw` is the table that was fitted."""
        if self.joint is not None:
            raw = raw[raw[self.by].notna()]
            joint = self.joint
            found = (*unidentified(joint), *far_rows(joint, raw), *rows_differ(joint, raw), *unfinished(joint, raw))
            return {"all groups": found}
        texts = raw[self.by].astype(str)
        return {name: fit.diagnostics(raw[texts == name]) for name, fit in self.fits.items()}

    def _row(self, name: str, fit: Fit, level: float) -> dict[str, Any]:
        row: dict[str, Any] = {self.by: name, "points": fit.nobs, "runs": fit.n_runs}
        bounds = fit.conf_int(1 - level) if len(fit.resamples) else None
        for parameter, value in fit.theta.items():
            row[parameter] = value
            if bounds is not None:
                row |= {f"{parameter}_{end}": float(bounds[end][parameter]) for end in ("low", "high")}
        return row


def fit_groups(
    law: Law | str, data: pd.DataFrame, by: str, *, share: Sequence[str] = (), where: str = "the table", **options: Any
) -> GroupedFit:
    """Fit `law` to the rows of each value of the column `by`; `options` are those of `fit_law`.

    Parameters in `share` have one value for all groups, found together with the others: one objective, the sum over all
    rows, and resamples of the runs of all groups.

    >>> cells = [(c, n, d) for c in ("web", "code") for n in (1e7, 1e8, 1e9) for d in (1e9, 1e10, 1e11)]
    >>> table = pd.DataFrame(cells, columns=["corpus", "n", "tokens"])
    >>> floor = table["corpus"].map({"web": 1.8, "code": 0.9})
    >>> table["loss"] = floor + 480 / table["n"] ** 0.35 + 2100 / table["tokens"] ** 0.37
    >>> grouped = fit_groups("hoffmann", table, "corpus", share=("alpha", "beta"), n_boot=0)
    >>> grouped.params[["E", "alpha"]].round(3).to_dict("index")
    {'web': {'E': 1.8, 'alpha': 0.35}, 'code': {'E': 0.9, 'alpha': 0.35}}

    Raises:
        ConfigError: `share` names no parameter of the law, or all of them, or those that are held.
        TableError: There is no such column, it has one value or very many, or no group can be fitted.
    """
    law = find_law(law) if isinstance(law, str) else law
    parts = _parts(data, by, where)
    _check_shared(law, share, options.get("fixed") or {})
    if share:
        return _jointly(law, data, by, parts, tuple(share), where, options)
    fits, refused = _each(law, parts, by, where, options)
    if not fits:
        raise TableError(f"{where}: no group of {by} can be fitted ({next(iter(refused.values()))})")
    return GroupedFit(by, (), fits, refused)


def _parts(data: pd.DataFrame, by: str, where: str) -> dict[str, pd.DataFrame]:
    """The rows of each value of a column, in the order in which the values come."""
    values = column_of(data, by, where)
    missing = int(values.isna().sum())
    if missing:
        raise TableError(f'{where}: {by} is missing in {missing} rows; leave them out with --where "{by} is not null"')
    texts = values.astype(str)
    names = list(dict.fromkeys(texts))
    if not 2 <= len(names) <= _MOST:
        raise TableError(
            f"{where}: {by} has {len(names)} value{'s' * (len(names) > 1)}; accepted: 2 to {_MOST} groups of rows"
        )
    return {name: data[(texts == name).to_numpy()] for name in names}


def _each(
    law: Law, parts: Mapping[str, pd.DataFrame], by: str, where: str, options: Mapping[str, Any]
) -> tuple[dict[str, Fit], dict[str, str]]:
    fits, refused = {}, {}
    for name, rows in parts.items():
        try:
            fits[name] = fit_law(law, rows, where=f"{where}, {by} {name}", **options)
        except TableError as error:
            refused[name] = str(error)
    return fits, refused


def _jointly(
    law: Law,
    data: pd.DataFrame,
    by: str,
    parts: Mapping[str, pd.DataFrame],
    share: tuple[str, ...],
    where: str,
    options: Mapping[str, Any],
) -> GroupedFit:
    """One fit of all rows, started from groups fitted by themselves with the shared parameters at each of some values."""
    plain = {**options, "n_boot": 0}
    fixed = dict(plain.pop("fixed", None) or {})
    alone, refused = _each(law, parts, by, where, plain | {"fixed": fixed})
    if not alone:
        raise TableError(f"{where}: no group of {by} can be fitted by itself ({next(iter(refused.values()))})")
    joint_law = SharedLaw(law, tuple(parts), share)
    numbers = {name: float(k + 1) for k, name in enumerate(parts)}
    table = data.assign(**{GROUP: data[by].astype(str).map(numbers)})
    best: Fit | None = None
    for start in _starts(law, joint_law, parts, alone, share, by, where, plain, fixed):
        found = fit_law(joint_law, table, where=where, **{**plain, "fixed": _held(joint_law, fixed), "start": start})
        best = found if best is None or found.objective < best.objective else best
    if best is None:
        raise TableError(f"{where}: {next(iter(refused.values()), 'the groups cannot be fitted together')}")
    joint = fit_law(joint_law, table, where=where, **{**options, "fixed": _held(joint_law, fixed), "start": best.theta})
    fits = {name: _part(joint, joint_law, law, name, numbers[name], fixed) for name in parts}
    return GroupedFit(by, share, fits, {}, joint)


def _starts(
    law: Law,
    joint: SharedLaw,
    parts: Mapping[str, pd.DataFrame],
    alone: Mapping[str, Fit],
    share: tuple[str, ...],
    by: str,
    where: str,
    options: Mapping[str, Any],
    fixed: Mapping[str, float],
) -> Iterator[dict[str, float]]:
    """Parameters of the joint fit: the shared ones as the groups' median, or as in the groups of most rows."""
    order = sorted(alone, key=lambda name: -alone[name].nobs)[:_STARTS]
    shared = [{p: float(np.median([fit.theta[p] for fit in alone.values()])) for p in share}]
    shared += [{p: alone[name].theta[p] for p in share} for name in order]
    for values in shared:
        held = {**fixed, **values}
        theta = dict(values)
        for name, rows in parts.items():
            if len(held) == len(law.parameters):
                own: Mapping[str, float] = held
            else:
                try:
                    own = fit_law(law, rows, where=f"{where}, {by} {name}", **{**options, "fixed": held}).theta
                except TableError:
                    if name not in alone:
                        raise
                    own = alone[name].theta
            theta |= {joint.own(p.name, name): own[p.name] for p in law.parameters if p.name not in share}
        yield theta


def _part(joint: Fit, joint_law: SharedLaw, law: Law, name: str, number: float, fixed: Mapping[str, float]) -> Fit:
    """One group of the joint fit as a fit of the law itself."""
    names = {p.name: p.name if p.name in joint_law.shared else joint_law.own(p.name, name) for p in law.parameters}
    order = list(joint.theta)
    rows = (joint.points[GROUP] == number).to_numpy()
    part = replace(
        joint,
        law=law,
        theta={own: joint.theta[theirs] for own, theirs in names.items()},
        columns={each: source for each, source in joint.columns.items() if each != GROUP},
        points=joint.points[rows].drop(columns=GROUP).reset_index(drop=True),
        resamples=joint.resamples[:, [order.index(theirs) for theirs in names.values()]],
        settings=None if joint.settings is None else joint.settings[rows],
        fixed=dict(fixed),
    )
    return replace(part, objective=_objective(part))


def _objective(fit: Fit) -> float:
    """What a group's rows add to the joint objective."""
    evaluate: Callable[..., tuple[Array, Array, Array]] = fit.problem.kernel.evaluate
    width = np.array([np.inf if fit.loss == "ls" else fit.delta])
    value, _, _ = evaluate(fit.phi[None], fit.rows.y, np.ones((1, fit.nobs)), width)
    return float(value[0])


def _held(joint: SharedLaw, fixed: Mapping[str, float]) -> dict[str, float]:
    """The held parameters under the joint law's names."""
    held = {name: value for name, value in fixed.items() if name in joint.shared}
    return held | {joint.own(name, g): value for name, value in fixed.items() if name not in held for g in joint.groups}


def _check_shared(law: Law, share: Sequence[str], fixed: Mapping[str, float]) -> None:
    names = [p.name for p in law.parameters]
    unknown = [name for name in share if name not in names]
    if unknown:
        raise ConfigError(f"share: {law.name} has no parameter {', '.join(unknown)}; accepted: {', '.join(names)}")
    if share and set(share) >= set(names):
        raise ConfigError("share: found every parameter, which is one fit of all rows; leave out --by and --share")
    both = sorted(set(share) & set(fixed))
    if both:
        raise ConfigError(f"share: {', '.join(both)} is held at a value, and so the same in every group; leave it out")
