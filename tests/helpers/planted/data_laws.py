"""Laws of size and data, near published values."""

import numpy as np

from .design import Planted, grid

_C = np.geomspace(1e14, 1e22, 40)
# Intervals of nearly least absolute deviations are calibrated from some 15 points a parameter.
_WIDE = grid(n=np.geomspace(2e7, 1e10, 12), tokens=np.geomspace(1e8, 1e12, 12))
_REPEATS = grid(n=np.geomspace(1e7, 3e9, 7), unique_tokens=np.geomspace(1e8, 1e10, 3), epochs=[1.0, 4.0, 16.0, 64.0])
_EPOCHS = [0.1, 0.3, 1.0, 1.7, 3.0, 5.0, 8.5, 12.0, 20.0, 40.0]
_PASSES = grid(unique_tokens=np.geomspace(1e7, 1e9, 4), epochs=_EPOCHS)
_CODE_PASSES = grid(unique_tokens=[1e7, 1e8, 1e9], epochs=_EPOCHS)
_EXAMPLES = np.geomspace(100.0, 1e6, 60)


def _seen(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns with the tokens seen in so many epochs."""
    epochs = columns.pop("epochs")
    return {**columns, "tokens": columns["unique_tokens"] * epochs}


def _pools(mixtures: np.ndarray) -> dict[str, np.ndarray]:
    """Learning curves of mixtures [m, pools] of pools of 3e6 and of 1e8 unique tokens each."""
    columns = grid(mixture=np.arange(len(mixtures)), size=[3e6, 1e8], epochs=[0.3, 1.0, 2.0, 4.0, 7.0, 12.0])
    mixed = mixtures[columns.pop("mixture")]
    columns["unique_tokens"] = columns.pop("size") * mixed.sum(axis=1)
    return _seen(columns) | {f"pool_{i + 1}": mixed[:, i] for i in range(mixed.shape[1])}


def _shares(domains: int) -> dict[str, np.ndarray]:
    """Forty mixtures."""
    shares = np.random.default_rng(0).dirichlet(np.ones(domains), 40)
    return {f"share_{j + 1}": shares[:, j] for j in range(1, domains)}


PLANTED = {
    "henighan_n": Planted({"A": 80.0, "E": 1.7, "alpha": 0.24}, {"n": np.geomspace(1e5, 1e10, 40)}),
    "henighan_d": Planted({"B": 200.0, "E": 2.2, "beta": 0.25}, {"tokens": np.geomspace(1e7, 1e12, 40)}),
    "henighan_c": Planted({"A": 240.0, "E": 1.9, "alpha": 0.13}, {"flops": _C}),
    "hestness": Planted({"alpha": 30.0, "gamma": 0.9, "beta": 0.2}, {"tokens": np.geomspace(1e4, 1e11, 40)}),
    "coupled": Planted({"A": 4e4, "B": 4e6, "E": 1.6, "alpha": 0.7, "beta": 0.8, "k": 0.45}, _WIDE),
    "gadre": Planted(
        {"a": 166.21, "b": 366.69, "E": 1.8366, "eta": 0.27285},
        grid(n=np.geomspace(1e7, 7e9, 9), tokens_per_param=np.geomspace(5.0, 640.0, 8)),
    ),
    "gadre_error": Planted({"eps": 0.86, "k": 2.2, "gamma": 0.71}, {"loss": np.linspace(1.8, 6.0, 40)}),
    "muennighoff": Planted(
        {"A": 521.0, "B": 1488.0, "E": 1.869, "alpha": 0.353, "beta": 0.353, "R_D": 15.4, "R_N": 5.3}, _seen(_REPEATS)
    ),
    "goyal": Planted({"a": 60.0, "d": 0.8, "b": 0.2, "tau": 5.0}, _seen(_PASSES)),
    "goyal_code": Planted({"n_0": 3e4, "d": 0.2, "b": 0.15, "tau": 5.0}, _seen(dict(_CODE_PASSES))),
    "goyal_pools": Planted(
        {"n_0": 3e4, "d": 0.2, "b_1": 0.2, "b_2": 0.12, "tau_1": 3.0, "tau_2": 8.0},
        _pools(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])),
    ),
    "goyal_pools4": Planted(
        {"n_0": 3e4, "d": 0.2}
        | {"b_1": 0.25, "b_2": 0.2, "b_3": 0.15, "b_4": 0.1}
        | {"tau_1": 2.0, "tau_2": 3.0, "tau_3": 5.0, "tau_4": 9.0},
        _pools(np.vstack([np.eye(4), np.ones((1, 4))])),
    ),
    "mixing": Planted({"c": 1.9, "k": 1.3, "t": -2.5}, {"share": np.linspace(0.0, 1.0, 30)}),
    "mixing3": Planted({"c": 1.9, "k": 0.9, "t_2": 1.1, "t_3": -2.0}, _shares(3)),
    "mixing5": Planted({"c": 1.9, "k": 0.9, "t_2": 1.1, "t_3": -2.0, "t_4": -0.6, "t_5": -1.2}, _shares(5)),
    "shifted": Planted({"A": 50.0, "E": 0.2, "B": 1e15, "alpha": 0.13}, {"flops": _C}),
    "width": Planted({"A": 90.0, "E": 1.7, "alpha": 0.91}, {"width": np.geomspace(64, 8192, 30)}),
    "farseer": Planted(
        {"E": 1.7, "B": 900.0, "c": 0.32, "e": -0.05, "b": -0.06, "s": -0.05, "alpha": 0.1, "beta": -0.1, "gamma": 0.1},
        _WIDE,
    ),
    "bnsl": Planted({"a": 0.3, "b": 6.0, "c0": 0.15, "c1": 0.5, "d1": 1e4, "f1": 0.3}, {"tokens": _EXAMPLES}),
    "bnsl2": Planted(
        {"a": 0.1, "b": 4.0, "c0": 0.1, "c1": 0.7, "c2": -0.55, "d1": 2e3, "gap2": 49.0, "f1": 0.2, "f2": 0.3},
        {"tokens": np.geomspace(30.0, 3e7, 130)},
    ),
}
