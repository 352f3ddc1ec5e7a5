"""Fitting laws to points: the solver, resampling by run, and the fitted result. Never imports torch."""

from testbed.fit.fitting import Fit, fit_law
from testbed.fit.resampling import Rows

__all__ = ["Fit", "Rows", "fit_law"]
