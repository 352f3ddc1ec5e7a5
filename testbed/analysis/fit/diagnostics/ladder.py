"""Tables whose sizes and tokens lie on one line, such as D = 20 N: no exponent, and no optimum, can be known from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testbed.analysis.fit.estimate import Estimate
from testbed.errors import TableError
from testbed.units import show_count

_WIDTH = 0.07  # decades off the line, over all rows, up to which they lie on it: D/N within about 12 %
_EXACT = 0.01  # decades, up to which D/N is one number
_LENGTH = 0.3  # decades of N and of D that a line has at least
_PARALLEL = 0.05  # of the slope from 1, up to which D/N counts as one number
_TIMES = 4.0  # tokens more and fewer, of runs that would tell N and D apart


@dataclass(frozen=True)
class Ladder:
    """Rows on one line: log D rises by `slope` for each log N; `ratio` is the middle D/N, `n` a size in their middle.

    `width` is the distance of the rows on both sides of the line, in decades.
    """

    slope: float
    ratio: float
    n: float
    rows: int
    width: float

    @property
    def words(self) -> str:
        """What the rows have in common."""
        if abs(self.slope - 1) <= _PARALLEL:
            return f"D/N is {'about ' * (self.width > _EXACT)}{self.ratio:.3g} in all {self.rows} rows"
        return f"D follows N on one line in all {self.rows} rows (D ~ N^{self.slope:.2f})"

    @property
    def runs(self) -> str:
        """Runs that would tell the effects of N and D apart."""
        less, more = (show_count(self.n * self.ratio * times) for times in (1 / _TIMES, _TIMES))
        return f"runs off that line, such as {show_count(self.n)} parameters on {less} and on {more} tokens"


def ladder(fit: Estimate) -> Ladder | None:
    """The line on which a fit's rows lie in log N and log D; None where they do not, or where N or D needs no fitting."""
    if not {"n", "tokens"} <= set(fit.law.columns) or not all(_is_free(fit, name) for name in ("n", "tokens")):
        return None
    at = np.log10(np.stack([fit.rows.columns[name].astype(np.float64) for name in ("n", "tokens")], axis=1))
    if (np.ptp(at, axis=0) < _LENGTH).any():
        return None
    off = at - at.mean(axis=0)
    along = np.linalg.svd(off, full_matrices=False)[2][0]
    width = float(np.ptp(off @ np.array([-along[1], along[0]])))
    if width > _WIDTH:
        return None
    middle = np.argsort(at[:, 0], kind="stable")[len(at) // 2]
    ratio = float(10 ** np.median(at[:, 1] - at[:, 0]))
    return Ladder(float(along[1] / along[0]), ratio, float(10 ** at[middle, 0]), fit.nobs, width)


def refuse_ladder(fit: Estimate, what: str) -> None:
    """Refuse an answer that needs the effects of N and of D apart.

    Raises:
        TableError: The fit's rows lie on one line in log N and log D.
    """
    found = ladder(fit)
    if found is not None:
        raise TableError(
            f"{what}: {found.words}, so what N does and what D does cannot be told apart: these runs have no exponents and no "
            f"optimum. Train {found.runs} (testbed suggest TABLE --target N,D names the best), or hold N's part at another "
            "family's with testbed fit --fix A=NUMBER --fix alpha=NUMBER; what these runs do show is the loss against compute: "
            "testbed fit TABLE --law henighan_c"
        )


def _is_free(fit: Estimate, column: str) -> bool:
    """Whether a free parameter goes with a column, as far as the law says so."""
    along = [p for p in fit.law.parameters if column in p.falls]
    names = {p.name for p in along} | {power for p in along if isinstance(power := p.falls[column], str)}
    return not along or not names <= set(fit.fixed)
