"""Fitting laws to points, for our runs and for anyone's table. Never imports torch.

From the search outwards:

    coordinates    a law's parameters as logarithms centred on the data
    kernels        the objective with its exact derivatives, for many fits at once
    solver         damped Newton to the optimum; least absolute deviations, the Huber likelihood
    search         where to start, so that the optimum is the global one
    problem        one law, one table, one way to weigh residuals
    resampling     whole runs drawn again
    fitting        fit_law: all of these on a table -> result.Fit
    intervals, frontier, document, regressor   what a Fit gives: intervals, optima, JSON, a scikit-learn estimator
    prediction/    kriging intervals beyond the data, and the back-test that they hold
    diagnostics/   warnings about a fit
    comparison/    laws by what they predict; two recipes; conventions of counting
    approaches/    envelope, IsoFLOP curves and law side by side
"""

from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.result import Fit

__all__ = ["Fit", "fit_law"]
