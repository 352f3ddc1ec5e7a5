"""Which runs to train: those that narrow a target's interval most for what they cost. Never imports torch.

    candidates     the runs that could be trained, and their cost when horizons share a trunk
    prior          the belief about a law, its misfit and noise before the first run
    posterior      the belief after runs, from a fit's kriging
    belief         the joint covariance of losses at candidates and target, before and after runs
    choice         single runs within a budget, one after another
    optimal_grid   a whole grid within a budget
    suggest        the next runs for a table or a study, with the interval to expect after them
    simulation     many simulated studies of one grid at once
    power          how much a grid would find out, by simulation

The criterion is the variance of the target's prediction (c-optimality: Elfving, Annals of Mathematical
Statistics 23, 1952), averaged over what the parameters may be, since in a law they decide which runs
are informative (Bayesian design: Chaloner and Verdinelli, Statistical Science 10, 1995). Li et al.
(arXiv:2604.22753) choose runs for scaling laws from a pool in the same spirit.
"""

from testbed.analysis.design.belief import Belief, Noise
from testbed.analysis.design.candidates import Candidates, Option, lattice
from testbed.analysis.design.choice import largest_run, one_by_one
from testbed.analysis.design.optimal_grid import Taken, optimal
from testbed.analysis.design.prior import noise_between, noise_of, prior_belief
from testbed.analysis.design.suggest import Suggestions, suggest_for_table, suggest_from_fit, suggest_from_prior

__all__ = [
    "Belief",
    "Candidates",
    "Noise",
    "Option",
    "Suggestions",
    "Taken",
    "largest_run",
    "lattice",
    "noise_between",
    "noise_of",
    "one_by_one",
    "optimal",
    "prior_belief",
    "suggest_for_table",
    "suggest_from_fit",
    "suggest_from_prior",
]
