"""Which runs to train: those that leave the least doubt about a target for what they cost. Never imports torch.

    candidates     what could be trained, and what it costs when horizons share a trunk
    prior          what is believed of a law, of its misfit and of noise before the first run
    posterior      what a fit's kriging knows of them instead
    belief         the joint covariance of losses at candidates and target, before and after runs
    choice         the runs that narrow it most: one after another, or a whole grid within a budget
    suggest        the next runs for a table or a study, with the interval to expect after them
    simulation     many studies of one grid at once
    power          what a grid could tell, by simulation

The criterion is the variance of the target's prediction (c-optimality: Elfving, Annals of Mathematical
Statistics 23, 1952), averaged over what the parameters may be, since in a law they decide where a run
tells most (Bayesian design: Chaloner and Verdinelli, Statistical Science 10, 1995). Li et al.
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
