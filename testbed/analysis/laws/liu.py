"""Loss against a network's width alone, as superposition of features predicts it."""

from __future__ import annotations

from testbed.analysis.laws.law import AdditiveLaw, amplitude, constant, exponent


class Width(AdditiveLaw):
    """L(m) = E + A / m^alpha in the width m (model dimension), Liu et al., arXiv:2505.10465.

    Features that overlap in m dimensions cost about 1 / m, so alpha is near 1 where more of them are held
    than there are dimensions. The paper fits families and data sets together, with a constant each and
    one A and alpha: `testbed fit --law width --by family --share A,alpha`. Loss in nats/token.
    """

    name = "width"
    parameters = (amplitude("A", {"width": "alpha"}), constant("E"), exponent("alpha", (0.1, 2.0)))
    columns = ("width",)
    formula = r"L = E + \frac{A}{m^{\alpha}}"
    source = "arXiv:2505.10465, the fit over model families"
