"""Encoder-decoder and multilingual, downstream, transfer and draft-model laws, reward, and curves that worsen."""

import numpy as np

from .design import Planted, grid

_C = {"flops": np.geomspace(1e18, 1e23, 50)}
_RL = grid(n=np.array([0.5, 1.5, 3.0, 7.0, 14.0, 32.0, 72.0]) * 1e9, flops=np.geomspace(1e18, 1e22, 10))

PLANTED = {
    "ghorbani": Planted(
        {"A": 30.0, "E": 0.9, "p_e": 0.12, "p_d": 0.22},
        grid(n_encoder=np.geomspace(1e6, 3e9, 8), n_decoder=np.geomspace(1e6, 3e9, 8)),
    ),
    "fernandes": Planted(
        {"beta": 300.0, "E": 0.8, "alpha": 0.32, "c_1": 0.6, "c_2": 0.7, "c_3": 0.9},
        grid(n=np.geomspace(2e6, 2e9, 9), share=np.array([0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0])),
    ),
    "krajewski": Planted({"Q_random": 0.25, "A": 1e20**0.2, "alpha": 0.2}, _C),
    "krajewski_nd": Planted(
        {"Q_random": 0.25, "A": 3e8**0.3, "B": 1e10**0.25, "alpha": 0.3, "beta": 0.25},
        grid(n=np.geomspace(1e6, 1e11, 9), tokens=np.geomspace(1e8, 1e13, 9)),
    ),
    "krajewski_max": Planted({"Q_random": 0.25, "A": 1e20**0.3, "alpha": 0.3, "E": 0.15}, _C),
    "krajewski_log": Planted({"A": 1e20**0.2, "alpha": 0.2}, _C),
    "krajewski_nd_log": Planted(
        {"A": 3e8**0.3, "B": 1e10**0.25, "alpha": 0.3, "beta": 0.25},
        grid(n=np.geomspace(1e6, 1e11, 9), tokens=np.geomspace(1e8, 1e13, 9)),
    ),
    "krajewski_max_log": Planted({"A": 1e20**0.3, "alpha": 0.3, "E": 0.15}, _C),
    "pass_at_k": Planted(
        {"exp_A": np.exp(12.0), "alpha": 0.25, "beta": 0.9, "delta": 0.01},
        grid(flops=np.geomspace(1e18, 1e22, 9), samples=[1.0, 2, 4, 8, 16, 64]),
    ),
    "repeated_sampling": Planted({"a": 2.5, "b": 0.4}, {"samples": np.geomspace(1.0, 1e4, 40)}),
    "passuntil": Planted({"c": 1e8**0.3 * 6, "alpha": 0.3}, {"n": np.geomspace(1e7, 1e11, 40)}),
    "reinforcement": Planted({"E": 1.2, "K": 0.1, "N_0": 4e9}, _RL),
    "reinforcement_n": Planted({"E_max": 1.4, "K": 0.1, "N_0": 4e9, "N_1": 3e8}, _RL),
    "proportional": Planted({"kappa": 0.012}, {"activations": np.geomspace(100.0, 1e5, 20)}),
    "bhagia": Planted({"a": 0.6, "b": 0.25, "k": 4.0, "L_0": 2.6}, {"loss": np.linspace(1.4, 4.2, 50)}),
    "isik_bleu": Planted({"A": np.exp(-12.0), "alpha": 1.1, "beta": 1.3}, {"tokens": np.geomspace(1e6, 1e12, 60)}),
    "isik_loss": Planted({"A": 400.0, "E": 1.4, "alpha": 0.35}, {"tokens": np.geomspace(1e6, 1e12, 60)}),
    "yan_tokens": Planted({"a": 0.31, "b": -3.2}, {"tokens": np.geomspace(1e8, 1e12, 40)}),
    "yan_n": Planted({"a": 0.4, "b": -4.1}, {"n": np.geomspace(1e7, 1e10, 40)}),
    "gao_bon": Planted({"alpha": 0.9, "beta": 0.15}, {"distance": np.linspace(0.1, 6.0, 50)}),
    "gao_rl": Planted({"alpha": 0.8, "beta": 0.25}, {"distance": np.linspace(0.2, 20.0, 50)}),
    "inverse_scaling": Planted({"A": 1e20**0.25, "L_inf": 3.2, "alpha": 0.25}, {"flops": np.geomspace(1e19, 1e25, 50)}),
    "u_shape": Planted({"Q_0": 0.4, "k": 0.006, "C_0": 3e20}, _C),
}
