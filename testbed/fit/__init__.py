"""Fitting laws to points: the solver, resampling by run, and the fitted result. Never imports torch."""

from testbed.fit.fitting import fit_law
from testbed.fit.result import Fit

__all__ = ["Fit", "fit_law"]
