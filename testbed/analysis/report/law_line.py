"""The line of a fitted law in a figure."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from numpy.typing import ArrayLike

from testbed.analysis.fit import Fit


def law_line(fit: Fit, over: Mapping[str, ArrayLike | float]) -> pd.DataFrame:
    """The law's columns and its response along a line [points]; a number in `over` is held in every point."""
    line = pd.DataFrame(dict(over))
    return line.assign(**{fit.law.response: fit.predict(line)})
