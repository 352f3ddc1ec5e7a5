"""The learning curve of Hestness et al.: generalisation error against the size of the training set."""

from __future__ import annotations

from testbed.analysis.laws.law import AdditiveLaw, amplitude, constant, exponent


class Hestness(AdditiveLaw):
    """Generalisation error of the best-fit model on m training tokens (or examples), arXiv:1712.00409, section 3.

    In the paper's letters, with beta = -beta_g above 0 (it finds .07 to .35) and gamma the irreducible
    error. Any error above 0 serves as `loss`; m stands in the column `tokens`.
    """

    name = "hestness"
    parameters = (amplitude("alpha", {"tokens": "beta"}), constant("gamma"), exponent("beta", (0.03, 1.0)))
    columns = ("tokens",)
    formula = r"L = \gamma + \frac{\alpha}{m^{\beta}}"
    source = "arXiv:1712.00409, sec. 3"
