"""The region of a fit's rows, and how far from it a target is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws import Law
from testbed.errors import TableError
from testbed.points import column_named

Array = NDArray[np.float64]

_MEASURED = ("n", "tokens")  # whose decades the priors of the discrepancy were measured in
_RATIO_BELOW, _RATIO_ABOVE = 0.05, 0.3  # decades beyond the fitted D/N for which intervals were tested


@dataclass(frozen=True)
class Domain:
    """The fitted rows of a law in coordinates of decades.

    A column whose values are all above 0 is taken in log10, any other as it is. Of columns other than N
    and tokens those that span less than a decade (a share, a loss) are stretched to one, so that what
    they do is not taken to be all but constant; `stretch` are those factors. Columns that do not vary,
    or are not numbers, have no coordinate.
    """

    names: tuple[str, ...]
    logarithmic: tuple[bool, ...]
    stretch: tuple[float, ...]
    rows: Array
    compute: Array | None
    ratio: Array | None

    @classmethod
    def of(cls, law: Law, columns: Mapping[str, NDArray[Any]]) -> Domain:
        """From the raw columns [rows] that were fitted."""
        names, logarithmic, stretch, rows = [], [], [], []
        for name in law.columns:
            values = np.asarray(columns[name])
            if values.ndim != 1 or values.dtype.kind not in "iuf" or np.ptp(values) == 0:
                continue
            logs = bool(values.min() > 0)
            at = np.log10(values) if logs else values.astype(np.float64)
            factor = 1.0 if name in _MEASURED or (logs and np.ptp(at) >= 1) else 1 / float(np.ptp(at))
            names.append(name)
            logarithmic.append(logs)
            stretch.append(factor)
            rows.append(factor * at)
        return cls(
            names=tuple(names),
            logarithmic=tuple(logarithmic),
            stretch=tuple(stretch),
            rows=np.stack(rows, axis=1) if rows else np.zeros((len(next(iter(columns.values()))), 0)),
            compute=log_compute(columns),
            ratio=_log_ratio(columns),
        )

    def coordinates(self, columns: Mapping[str, NDArray[Any]]) -> Array:
        """Coordinates [m, d] of raw columns [m].

        Raises:
            TableError: A value is not finite, or not above 0 in a logarithmic column.
        """
        at = np.empty((len(next(iter(columns.values()))), len(self.names)))
        for k, name in enumerate(self.names):
            values = np.asarray(columns[name], np.float64)
            good = np.isfinite(values) & (values > 0 if self.logarithmic[k] else True)
            if not good.all():
                row = int(np.flatnonzero(~good)[0])
                accepted = "a finite number above 0" if self.logarithmic[k] else "a finite number"
                raise TableError(f"the targets: {name} is {values[row]:g} in row {row + 1}; accepted: {accepted}")
            at[:, k] = self.stretch[k] * (np.log10(values) if self.logarithmic[k] else values)
        return at

    def gap(self, columns: Mapping[str, NDArray[Any]]) -> Array:
        """Decades of compute [m] from the largest fitted run to each target; 0 within the data.

        Where the law's columns give no compute: the largest excess over any coordinate's range, on either side.
        """
        compute = log_compute(columns)
        if self.compute is not None and compute is not None:
            return np.asarray(np.maximum(compute - self.compute.max(), 0.0))
        at = self.coordinates(columns)
        if not self.names:
            return np.zeros(len(at))
        beyond = np.maximum(at - self.rows.max(axis=0), self.rows.min(axis=0) - at)
        return np.asarray(np.maximum(beyond.max(axis=1), 0.0))

    def inside(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Whether each target [m] is of the kind that was fitted, whatever its size.

        Sizes count by tokens a parameter, which has to lie within the fitted ratios (0.05 decades below and
        0.3 above, as where intervals were tested); every other coordinate, and all of them where the law's
        columns give no such ratio, have to lie within their range.
        """
        at, ratio = self.coordinates(columns), _log_ratio(columns)
        inside = np.ones(len(at), bool)
        by_ratio = False
        if self.ratio is not None and ratio is not None:
            inside &= (ratio >= self.ratio.min() - _RATIO_BELOW) & (ratio <= self.ratio.max() + _RATIO_ABOVE)
            by_ratio = True
        for k, name in enumerate(self.names):
            if not (by_ratio and (column_named(name).size or name == "steps")):  # steps stand for tokens
                low, high = self.rows[:, k].min(), self.rows[:, k].max()
                inside &= (at[:, k] >= low - 1e-9) & (at[:, k] <= high + 1e-9)
        return inside


def log_compute(columns: Mapping[str, NDArray[Any]]) -> Array | None:
    """log10 of training FLOPs [m]: the column flops, else 6 N D where the columns give both; None where they do not."""
    if "flops" in columns:
        return np.asarray(np.log10(columns["flops"]))
    tokens = _log_tokens(columns)
    return None if tokens is None or "n" not in columns else np.log10(6 * np.asarray(columns["n"])) + tokens


def _log_ratio(columns: Mapping[str, NDArray[Any]]) -> Array | None:
    tokens = _log_tokens(columns)
    return None if tokens is None or "n" not in columns else tokens - np.log10(columns["n"])


def _log_tokens(columns: Mapping[str, NDArray[Any]]) -> Array | None:
    if "tokens" in columns:
        return np.asarray(np.log10(columns["tokens"]))
    if "n" in columns and "tokens_per_param" in columns:
        return np.asarray(np.log10(columns["n"]) + np.log10(columns["tokens_per_param"]))
    if "steps" in columns and "batch_tokens" in columns:
        return np.asarray(np.log10(columns["steps"]) + np.log10(columns["batch_tokens"]))
    return None
