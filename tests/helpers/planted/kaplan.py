"""Hoffmann's and Kaplan's laws, near the published values."""

import numpy as np

from .design import Planted, grid

_N, _D, _C = np.geomspace(1e6, 1e9, 7), np.geomspace(1e8, 1e11, 6), np.geomspace(1e16, 1e22, 40)
_ND = grid(n=_N, tokens=_D)

PLANTED = {
    "hoffmann": Planted({"A": 482.0, "B": 2085.0, "E": 1.82, "alpha": 0.348, "beta": 0.366}, _ND),
    "hoffmann_tied": Planted({"A": 482.0, "B": 2085.0, "E": 1.82, "alpha": 0.35}, _ND),
    "kaplan_nd": Planted({"A": 8.8e13 ** (0.076 / 0.095), "B": 5.4e13, "a": 0.076 / 0.095, "b": 0.095}, _ND),
    "kaplan": Planted({"A": 2e8, "B": 4e10, "E": 1.5, "a": 0.9, "b": 0.3}, _ND),
    "kaplan_n": Planted({"A": 8.8e13**0.076, "alpha": 0.076}, {"n": np.geomspace(1e5, 1e9, 40)}),
    "kaplan_d": Planted({"B": 5.4e13**0.095, "beta": 0.095}, {"tokens": np.geomspace(1e7, 1e11, 40)}),
    "kaplan_c": Planted({"A": 3.1e8**0.05, "alpha": 0.05}, {"flops": _C}),
}
