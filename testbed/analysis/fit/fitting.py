"""Fit one law to one table: map its columns, find the global optimum, refit resamples of whole runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.fit.coordinates import Coordinates
from testbed.analysis.fit.fit_input import read_points
from testbed.analysis.fit.problem import Loss, Problem
from testbed.analysis.fit.resampling import Replicates, Rows
from testbed.analysis.fit.result import Fit
from testbed.analysis.fit.settings import Settings
from testbed.analysis.laws import Law, find_law
from testbed.errors import ConfigError, TableError
from testbed.points import TableLike

Array = NDArray[np.float64]

_EXACT = 3e7  # rows times resamples up to which every resample is fitted by itself


def fit_law(
    law: Law | str,
    data: TableLike,
    *,
    columns: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    loss: Loss | None = None,
    delta: float = 1e-3,
    space: Literal["log", "linear"] | None = None,
    replicates: Replicates = "separate",
    fixed: Mapping[str, float] | None = None,
    start: Mapping[str, float] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    where: str = "the table",
) -> Fit:
    """Fit `law` to a table of runs; the same arguments give the same bits.

    >>> import pandas as pd
    >>> n, tokens = np.repeat([1e7, 1e8, 1e9], 4), np.tile([1e9, 1e10, 1e11, 1e12], 3)
    >>> table = pd.DataFrame({"n": n, "tokens": tokens, "loss": 1.8 + 480 / n**0.35 + 2100 / tokens**0.37})
    >>> fit = fit_law("hoffmann", table, n_boot=0)
    >>> fit.params.round(2).to_dict()
    {'A': 480.0, 'B': 2100.0, 'E': 1.8, 'alpha': 0.35, 'beta': 0.37}

    `data` is a DataFrame, columns as a mapping, a list of dicts, or a file's path. `columns` says which of its
    columns are the law's (canonical name -> column or expression); those not named are found by their names. A
    unit in a name is read ("Model Size (B)"); `units` says it otherwise: {"n": "M", "tokens": "B"}.
    `loss` is "huber" (default on log responses; its width is `delta`), "lad", "ls" (default on linear ones) or
    "huber-likelihood"; `space` overrides where the law takes residuals. `replicates="mean"` fits the mean of the
    runs at each design instead of every point. `fixed` holds parameters at values. With `start` the optimum next
    to these parameters is taken instead of the global one. `n_boot` resamples of whole runs give the intervals.

    Raises:
        TableError: The table lacks a column, has values that the law does not take, or too few rows.
        ConfigError: The law is unknown, or an argument is out of its range.
    """
    law = find_law(law) if isinstance(law, str) else law
    space = space or law.space
    loss = loss or ("huber" if space == "log" else "ls")
    fixed = dict(fixed or {})
    _check_parameters(law, fixed)
    _check_ways(law, loss, delta, space, replicates, n_boot)
    table, mapping, points = read_points(law, data, columns, units, where, space)
    settings = Settings.of(table, points, law, mapping)
    rows = Rows.of(points, law, space, replicates, settings.codes)
    _check_rows(law, rows, fixed, where)
    prepared = law.prepare(rows.columns)
    problem = Problem(Coordinates.of(law, prepared, rows.y, space, fixed), prepared, loss, delta)
    found, search = problem.best(rows.y) if start is None else problem.nearest(rows.y, start)
    resamples, converged = _resampled(problem, rows, found.phi, n_boot, seed)
    return Fit(
        law=law,
        theta=problem.coordinates.theta(found.phi[0]),
        objective=float(found.objective[0]),
        converged=bool(found.converged[0]),
        loss=loss,
        delta=delta,
        space=space,
        replicates=replicates,
        fixed=fixed,
        seed=seed,
        columns=mapping,
        search=search,
        points=points,
        resamples=resamples,
        resamples_converged=converged,
        differs=settings.names,
        settings=settings.codes,
    )


def _resampled(problem: Problem, rows: Rows, phi: Array, n_boot: int, seed: int) -> tuple[Array, NDArray[np.bool_]]:
    """Parameters [n_boot, all] of resampled runs, and which of those fits converged."""
    if n_boot == 0:
        return np.empty((0, len(problem.coordinates.law.parameters))), np.empty(0, bool)
    parts, converged = [], []
    means = len(rows.y) < len(rows.units)  # their responses move with the runs that are drawn, not only their weights
    exact = means or len(rows.y) * n_boot <= _EXACT
    step = None if exact else _one_step(problem, rows, phi)
    for times in rows.times(n_boot, seed):
        if step is not None:
            parts.append(phi + (times - 1) @ step)
            converged.append(np.ones(len(times), bool))
            continue
        y, weights = rows.resampled(times)
        found = problem.solve(y, weights, np.repeat(phi, len(times), axis=0))
        parts.append(found.phi)
        converged.append(found.converged)
    return problem.coordinates.natural(np.concatenate(parts)), np.concatenate(converged)


def _one_step(problem: Problem, rows: Rows, phi: Array) -> Array:
    """How far drawing each run once more moves the coordinates [runs, p]: one Newton step from the optimum.

    With very many rows this is the resampled optimum to first order, at the cost of one pass. An objective
    with a corner at 0 is rounded off there, over `delta`.
    """
    coordinates = problem.coordinates
    r = rows.y - coordinates.response(phi, problem.columns)[0]
    width = np.inf if problem.loss == "ls" else problem.delta
    scores = coordinates.slopes(phi, problem.columns)[0] * np.clip(r, -width, width)
    ones = np.ones((1, len(rows.y)))
    _, _, hessian = problem.kernel.evaluate(phi, rows.y, ones, np.array([width]))
    by_run = rows.members.T @ scores.T
    return np.asarray(by_run @ np.linalg.pinv(hessian[:, :, 0]))


def _check_parameters(law: Law, fixed: Mapping[str, float]) -> None:
    names = [p.name for p in law.parameters]
    unknown = sorted(set(fixed) - set(names))
    if unknown:
        raise ConfigError(f"fixed: {law.name} has no parameter {', '.join(unknown)}; accepted: {', '.join(names)}")
    if len(fixed) == len(names):
        raise ConfigError(f"fixed: every parameter of {law.name} is held, so there is nothing to fit")


def _check_ways(law: Law, loss: Loss, delta: float, space: str, replicates: Replicates, n_boot: int) -> None:
    if loss not in ("huber", "lad", "ls", "huber-likelihood"):
        raise ConfigError(f"loss: found {loss!r}; accepted: huber, lad, ls, huber-likelihood")
    if not (np.isfinite(delta) and delta > 0):
        raise ConfigError(f"delta: found {delta!r}; accepted: a number above 0")
    if n_boot < 0:
        raise ConfigError(f"n_boot: found {n_boot!r}; accepted: 0 or more")
    if space not in ("log", "linear") or replicates not in ("separate", "mean"):
        raise ConfigError(
            f"found space {space!r} and replicates {replicates!r}; accepted: log or linear, and separate or mean"
        )
    if replicates == "mean" and "run" in law.columns:
        raise ConfigError(f"replicates: found 'mean'; {law.name} is a law of single runs' curves; accepted: separate")


def _check_rows(law: Law, rows: Rows, fixed: Mapping[str, float], where: str) -> None:
    free = [p.name for p in law.parameters if p.name not in fixed]
    if len(rows.y) <= len(free):
        raise TableError(
            f"{where}: {len(rows.y)} row{'s' * (len(rows.y) > 1)} for the {len(free)} parameters of {law.name}; "
            "give more points than parameters"
        )
    for name in law.columns:
        values = rows.columns[name]
        if name in ("run", "step") or not _decides(law, name, fixed):
            continue
        if values.min() == values.max():
            raise TableError(
                f"{where}: {name} is {values[0]:g} in every row, so what it does cannot be fitted; "
                "give runs that differ in it, or a law without it"
            )


def _decides(law: Law, column: str, fixed: Mapping[str, float]) -> bool:
    """Whether a free parameter may depend on a column: not where all parameters that the law says go with it are held."""
    along = {p.name for p in law.parameters if column in p.falls or p.column == column}
    along |= {power for p in law.parameters if (power := p.falls.get(column)) is not None and isinstance(power, str)}
    return not along or not along <= set(fixed)
