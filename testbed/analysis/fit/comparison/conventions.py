"""One law fitted under each convention of counting parameters and FLOPs that a table has columns for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from testbed.analysis.fit.diagnostics.sources import other_count
from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.problem import Loss
from testbed.analysis.fit.result import Fit
from testbed.analysis.laws import Law, find_law
from testbed.errors import ConfigError, TableError
from testbed.points import TableLike, as_table, column_named, fit_columns, map_columns
from testbed.points.expressions import quoted

Array = NDArray[np.float64]

_APPROXIMATE = "6ND"
_SAME = 1e-3  # relative difference below which exact FLOPs are 6 N D
_SPAN = 1e4  # factor beyond the smallest and the largest size within which an optimum is searched
_GRID, _ZOOMS = 401, 4
_NEAR = 1.1  # times the budget, on either side, between which a slope is taken


def convention_table(
    law: Law | str,
    data: TableLike,
    *,
    columns: Mapping[str, str] | None = None,
    flops: float | None = None,
    loss: Loss | None = None,
    delta: float = 1e-3,
    where: str = "the table",
) -> pd.DataFrame:
    """One row a convention: N without embeddings or with them, FLOPs exact or 6 N D.

    Columns n and flops name the convention; objective and the law's exponents are its fit's. For a law of N
    and tokens there follow, at `budget` FLOPs (the largest of the table if not given), the optimal n_opt,
    tokens_opt, tokens_per_param and loss_opt, and exponent_n, with which n_opt grows there. The number
    of the budget is the same in every row though it counts different FLOPs: that is what the convention moves.
    N and tokens per parameter are in the row's own count; tokens and loss compare directly. Exact FLOPs
    per token are those of the table, between and beyond its sizes by power laws. For a law of FLOPs alone
    loss_opt is its loss at the budget.

    >>> n, tokens = np.repeat([1e7, 1e8, 1e9, 1e10], 4), np.tile([1e9, 1e10, 1e11, 1e12], 4)
    >>> table = {"n_params_non_embedding": n, "n_params_total": n + 1e4 * n**0.5, "tokens": tokens}
    >>> table["loss"] = 1.8 + 480 / n**0.35 + 2100 / tokens**0.37
    >>> convention_table("hoffmann", table, flops=1e20)[["n", "alpha"]].round(2).values.tolist()
    [['n_params_non_embedding', 0.35], ['n_params_total', 0.55]]

    Raises:
        ConfigError: The law has neither N nor FLOPs among its columns, or `flops` is not above 0.
        TableError: The table has no column by which the law can be fitted.
    """
    law = find_law(law) if isinstance(law, str) else law
    table = as_table(data, where)
    if not {"n", "flops"} & set(law.columns):
        raise ConfigError(
            f"conventions: {law.name} has columns {', '.join(law.columns)}; accepted: a law of n or of flops"
        )
    runs = _Runs.of(table, dict(columns or {}), where)
    budget = runs.largest if flops is None else flops
    if flops is not None and not (np.isfinite(budget) and budget > 0):
        raise ConfigError(f"flops: found {budget:g}; accepted: a finite number above 0")
    rows = []
    for size, cost in runs.conventions(law):
        fit = fit_law(law, table, columns=runs.mapping(law, size, cost), loss=loss, delta=delta, n_boot=0, where=where)
        rows.append(
            {"n": size, "flops": cost, "objective": fit.objective}
            | {p.name: fit.theta[p.name] for p in law.parameters if p.role == "exponent"}
            | _at_budget(fit, runs.per_token(size, cost), budget)
        )
    if not rows:
        raise TableError(f"{where}: no column of parameters or FLOPs that {law.name} could be fitted by; name one")
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Runs:
    """A table's sizes by each count (source -> values), its tokens and exact FLOPs (source and values), where it has them."""

    given: dict[str, str]
    sizes: dict[str, Array]
    tokens: tuple[str, Array] | None
    flops: tuple[str, Array] | None
    columns: frozenset[str]

    @classmethod
    def of(cls, table: pd.DataFrame, given: dict[str, str], where: str) -> _Runs:
        def found(name: str) -> tuple[str, Array] | None:
            try:
                source = map_columns(table, (name,), {key: given[key] for key in (name,) if key in given}, where)[name]
            except TableError:
                return None
            return source, _values(table, source, where)

        n, tokens = found("n"), found("tokens")
        exact = given.get("flops") or next(
            (c for c in column_named("flops").names if c in table and not c.endswith("6nd")), None
        )
        sizes = {} if n is None else dict([n])
        other = other_count(table, n[0]) if n is not None and n[0] in table else None
        if other is not None:
            sizes[other] = _values(table, other, where)
        flops = None if exact is None else (exact, _values(table, exact, where))
        return cls(given, sizes, tokens, flops, frozenset(map(str, table.columns)))

    @property
    def largest(self) -> float:
        """FLOPs of the largest run: exact, or 6 N D by the first count; nan where neither is known."""
        if self.flops is not None:
            return float(self.flops[1].max())
        if self.tokens is None or not self.sizes:
            return np.nan
        return float((6 * next(iter(self.sizes.values())) * self.tokens[1]).max())

    def conventions(self, law: Law) -> Iterator[tuple[str, str]]:
        """Count of N and way of counting FLOPs; exact FLOPs that are 6 N D by some count are no convention of their own."""
        apart = self.flops is not None and not any(
            self.tokens is not None and np.abs(self.flops[1] / (6 * size * self.tokens[1]) - 1).max() <= _SAME
            for size in self.sizes.values()
        )
        exact = [self.flops[0]] if self.flops is not None and apart else []
        if "n" in law.columns:
            frontier = {"n", "tokens"} <= set(law.columns) or "flops" in law.columns
            costs = [_APPROXIMATE, *exact] if frontier else [""]
            yield from ((size, cost) for size in self.sizes for cost in costs)
            return
        if self.tokens is not None:
            yield from ((size, _APPROXIMATE) for size in self.sizes)
        yield from (("", cost) for cost in exact)

    def mapping(self, law: Law, size: str, cost: str) -> dict[str, str]:
        """The columns with which the law is fitted under a convention."""
        changed = {"n": size} if "n" in law.columns else {}
        if "flops" in law.columns:
            changed["flops"] = cost
            if cost == _APPROXIMATE and self.tokens is not None:
                changed["flops"] = f"6 * {self._operand(size)} * {self._operand(self.tokens[0])}"
        return self.given | changed

    def per_token(self, size: str, cost: str) -> Callable[[Array], Array]:
        """FLOPs a token of sizes [m]."""
        if cost == _APPROXIMATE or self.flops is None or self.tokens is None or not size:
            return lambda n: 6 * n
        spent = pd.Series(np.log(self.flops[1] / self.tokens[1])).groupby(np.log(self.sizes[size])).median()
        at, log_cost = spent.index.to_numpy(np.float64), spent.to_numpy(np.float64)

        def interpolated(n: Array) -> Array:
            inside = np.clip(np.log(n), at[0], at[-1])
            return np.asarray(np.exp(np.interp(inside, at, log_cost) + np.log(n) - inside))

        return interpolated

    def _operand(self, source: str) -> str:
        """A column, or the expression that computes one, as part of an expression."""
        return quoted(source) if source in self.columns else f"({source})"


def _at_budget(fit: Fit, per_token: Callable[[Array], Array], budget: float) -> dict[str, float]:
    """The compute-optimal columns of a row at the budget; none for a law without an optimum."""
    if set(fit.law.columns) == {"flops"}:
        return {"budget": budget, "loss_opt": float(fit.predict(flops=budget)[0])}
    if set(fit.law.columns) != {"n", "tokens"}:
        return {}
    n = _best_size(fit, per_token, budget)
    tokens = budget / float(per_token(np.array([n]))[0])
    around = [_best_size(fit, per_token, budget * factor) for factor in (1 / _NEAR, _NEAR)]
    return {
        "budget": budget,
        "n_opt": n,
        "tokens_opt": tokens,
        "tokens_per_param": tokens / n,
        "loss_opt": float(fit.predict(n=n, tokens=tokens)[0]),
        "exponent_n": float(np.log(around[1] / around[0]) / (2 * np.log(_NEAR))),
    }


def _best_size(fit: Fit, per_token: Callable[[Array], Array], budget: float) -> float:
    """The size of lowest loss at the budget, by zooming; nan where it is at an end of the search."""
    sizes = fit.rows.columns["n"]
    first, last = np.log(sizes.min() / _SPAN), np.log(sizes.max() * _SPAN)
    low, high = first, last
    for _ in range(_ZOOMS):
        at = np.linspace(low, high, _GRID)
        n = np.exp(at)
        best = at[np.argmin(fit.predict(n=n, tokens=budget / per_token(n)))]
        step = (high - low) / (_GRID - 1)
        low, high = max(best - step, first), min(best + step, last)
    return float(np.exp(best)) if first < best < last else np.nan


def _values(table: pd.DataFrame, source: str, where: str) -> Array:
    return fit_columns(table, {"n": source}, where)["n"].to_numpy(np.float64)
