"""The law of Ghorbani et al. for encoder-decoder models: one power each of the encoder's and the decoder's size."""

from __future__ import annotations

from testbed.analysis.laws.law import AdditiveLaw, amplitude, constant, exponent


class Ghorbani(AdditiveLaw):
    """Loss of translation models trained to convergence, arXiv:2109.07740, the bivariate law.

    The paper writes L = alpha (N_e' / N_e)^p_e (N_d' / N_d)^p_d + L_inf with the sizes N_e', N_d' of a
    reference model; here A = alpha N_e'^p_e N_d'^p_d, which is the same law whatever the reference, and
    E is its L_inf in nats/token. N_e and N_d count the parameters of encoder and decoder.
    """

    name = "ghorbani"
    parameters = (
        amplitude("A", {"n_encoder": "p_e", "n_decoder": "p_d"}),
        constant("E"),
        exponent("p_e", (0.02, 1.0)),
        exponent("p_d", (0.02, 1.0)),
    )
    columns = ("n_encoder", "n_decoder")
    formula = r"L = E + A N_e^{-p_e} N_d^{-p_d}"
    source = "arXiv:2109.07740, the bivariate law"
