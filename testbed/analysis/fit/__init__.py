"""Fitting laws to points, for our runs and for anyone's table. Never imports torch.

From the search outwards:

    coordinates    a law's parameters as logarithms centred on the data
    kernels        the objective with its exact derivatives, for many fits at once
    solver         damped Newton to the optimum; least absolute deviations, the Huber likelihood
    search         many starts, so that the optimum is the global one
    problem        one law, one table, one way to weigh residuals
    resampling     the bootstrap of whole runs
    fitting        fit_law: all of these on a table -> result.Fit (an estimate.Estimate with methods)
    intervals, frontier, document, regressor   of a fit: intervals, optima, JSON; a scikit-learn estimator
    prediction/    kriging intervals beyond the data
    heldout/       the back-test of intervals, and the rolling origin
    diagnostics/   warnings about a fit
    comparison/    laws by what they predict; two recipes; conventions of counting
    approaches/    envelope, IsoFLOP curves and law side by side
"""

from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.result import Fit

__all__ = ["Fit", "fit_law"]
