"""How often the runs of a study read their text, and what that means for the laws of new text."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from testbed.records.record import Record

LAW = "muennighoff"  # the law of repeated text
_WORTH = 4  # passes to which repeated text is worth nearly as much as new one (arXiv:2305.16264, sec. 5)
_Passes = Annotated[float, Field(gt=0, le=1e100)]


class Repetition(Record):
    """Passes over the text: the least and the most of the grid's annealed losses, and the target's where it is known."""

    least: _Passes
    most: _Passes
    target: _Passes | None = None

    def sentence(self, laws: Collection[str]) -> str:
        """The passes, and what to do about them where `laws` are not all of repeated text."""
        grid = (
            _times(self.most) if _times(self.least) == _times(self.most) else f"{self.least:.2g} to {_times(self.most)}"
        )
        target = "" if self.target is None else f" and the target {_times(self.target)}"
        found = f"the grid reads its text {grid}{target}"
        if max(self.most, self.target or 1) <= _WORTH or (laws and set(laws) == {LAW}):
            return found
        return (
            f"{found}; beyond about {_WORTH} times the laws of new text (all but {LAW}) promise too much: give more text, or "
            f"take the law of repeated text, --set 'forecast.laws=[\"{LAW}\"]'"
        )


def repetition(grid: Collection[float], target: float | None) -> Repetition | None:
    """From the passes of the grid's losses and of the target; None where no text is read twice."""
    least, most = max(min(grid), 1.0), max(max(grid), 1.0)
    if max(most, target or 1.0) < 1.05:
        return None
    return Repetition(least=least, most=most, target=None if target is None else max(target, 1.0))


def _times(passes: float) -> str:
    return "once" if passes < 1.05 else f"{passes:.2g} times"
