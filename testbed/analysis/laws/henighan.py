"""Power law plus constant in one quantity, as Henighan et al. fit it for every modality: in N, in D, in C."""

from __future__ import annotations

from testbed.analysis.laws.law import AdditiveLaw, amplitude, constant, exponent

_SOURCE = "arXiv:2010.14701, eq. 1.1"


class HenighanN(AdditiveLaw):
    """L(N) of models trained to convergence; A = N_0^alpha, E the paper's L_inf in nats/token."""

    name = "henighan_n"
    parameters = (amplitude("A", {"n": "alpha"}), constant("E"), exponent("alpha"))
    columns = ("n",)
    formula = r"L = E + \frac{A}{N^{\alpha}}"
    source = _SOURCE


class HenighanD(AdditiveLaw):
    """L(D) of models that are large enough; B = D_0^beta, E the paper's L_inf in nats/token."""

    name = "henighan_d"
    parameters = (amplitude("B", {"tokens": "beta"}), constant("E"), exponent("beta"))
    columns = ("tokens",)
    formula = r"L = E + \frac{B}{D^{\beta}}"
    source = _SOURCE


class HenighanC(AdditiveLaw):
    """L(C) along the compute frontier; A = C_0^alpha, C in FLOPs, E the paper's L_inf in nats/token."""

    name = "henighan_c"
    parameters = (amplitude("A", {"flops": "alpha"}), constant("E"), exponent("alpha", (0.02, 1.0)))
    columns = ("flops",)
    formula = r"L = E + \frac{A}{C^{\alpha}}"
    source = _SOURCE
