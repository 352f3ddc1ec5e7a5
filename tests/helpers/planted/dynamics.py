"""Laws of training dynamics and of architecture, near the published values."""

from __future__ import annotations

from typing import Any

import numpy as np

from .design import Planted, grid

_N, _D = np.geomspace(3e7, 3e9, 7), np.geomspace(1e9, 1e11, 6)


def curves(runs: int, rows: int, warmup: int = 200, steps: int = 6000) -> dict[str, Any]:
    """Rows of runs whose LR warms up, stays at one of several peaks, then falls to one of several levels at once or slowly."""
    columns: dict[str, list[Any]] = {"run": [], "step": [], "lr_at_step": [], "lr_sum": []}
    spread = np.random.default_rng(0)
    for run in range(runs):
        step = np.arange(steps + 1.0)
        peak, end = spread.uniform(2e-4, 1e-3), spread.choice([1.0, 0.5, 0.2, 0.05])
        begin = spread.uniform(0.2, 0.8) * steps
        over = spread.choice([1.0, 0.1 * steps, steps - begin])
        lr = peak * np.minimum(step / warmup, 1) * (1 - (1 - end) * np.clip((step - begin) / over, 0, 1))
        logged = np.unique(np.linspace(warmup + 200, steps, rows).astype(int))
        columns["run"] += [str(run)] * len(logged)
        for name, values in (("step", step), ("lr_at_step", lr), ("lr_sum", np.cumsum(lr))):
            columns[name] += values[logged].tolist()
    return {name: np.array(values) for name, values in columns.items()}


PLANTED = {
    "tissue": Planted({"L0": 2.63, "A": 0.43, "C": 0.41, "alpha": 0.55, "lambda": 0.998}, curves(20, 4)),
    "tissue_n": Planted(
        {"L0": 1.9, "A": 0.43, "B": 80.0, "C": 0.41, "alpha": 0.55, "beta": 0.3, "lambda": 0.998},
        curves(20, 4) | {"n": np.repeat(np.geomspace(1e7, 1e9, 5), 16)},
    ),
    "multi_power": Planted(  # B several times the published one, so that few rows show what depends on it
        {"L0": 2.65, "A": 0.6, "B": 1500.0, "C": 2.1, "alpha": 0.45, "beta": 0.6, "gamma": 0.66}, curves(40, 4)
    ),
    "step_law_lr": Planted({"c": 1.79, "a": -0.713, "b": 0.307}, grid(n=_N, tokens=_D)),
    "step_law_batch": Planted({"c": 0.58, "b": 0.571}, {"tokens": np.geomspace(1e9, 1e12, 40)}),
    "critical_batch": Planted({"B": 2.1e8, "b": 1 / 0.21}, {"loss": np.linspace(2.0, 7.0, 40)}),
    "steps_at_batch": Planted({"E_min": 2e9, "S_min": 3e3}, {"batch_tokens": np.geomspace(1e4, 1e8, 20)}),
    "kaplan_ns": Planted(
        {"A": 6.5e13**0.077, "S_c": 2.1e3, "alpha_N": 0.077, "alpha_S": 0.76},
        grid(n=[1e6, 1e7, 1e8, 1e9], min_steps=np.geomspace(1e3, 1e5, 8)),
    ),
    "kaplan_trajectory": Planted(
        {"A": 6.5e13**0.077, "S_c": 2.1e3, "B": 2.1e8, "alpha_N": 0.077, "alpha_S": 0.76, "b": 1 / 0.21},
        grid(n=[1e6, 1e7, 1e8, 1e9], steps=np.geomspace(1e3, 1e5, 5), batch_tokens=[2e4, 2e5, 2e6, 2e7]),
    ),
    "vocabulary": Planted(
        {"A1": 1.8e3, "A2": 60.0, "B": 2e4, "E": 5.5, "alpha1": 0.4, "alpha2": 0.35, "beta": 0.45},
        grid(n_non_vocab=_N[::2], n_vocab=np.geomspace(2e6, 2e8, 4), tokens=_D),
    ),
    "vocabulary_tied": Planted(
        {"A1": 1.8e3, "A2": 60.0, "B": 1e4, "E": 5.5, "alpha": 0.42, "alpha2": 0.35},
        grid(n_non_vocab=_N[::2], n_vocab=np.geomspace(2e6, 2e8, 4), tokens=_D),
    ),
    "routed": Planted(
        {"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "E_start": 1.85, "E_max": 314.0},
        grid(n_dense=np.geomspace(1.5e7, 1.3e9, 6), experts=[1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]),
    ),
    "leverage": Planted(
        {"a": 1.23, "d": -0.0761, "gamma": 0.0167, "beta": -0.117, "A_start": 0.0163},
        grid(activation_ratio=[1 / 128, 1 / 32, 1 / 8, 0.5], granularity=[1.0, 2, 4, 8, 16], flops=[1e18, 1e20, 1e22]),
    ),
    "sparse": Planted(
        {"A": 482.0, "B": 2085.0, "E": 1.82, "alpha": 0.348, "beta": 0.366}, grid(n_average=_N, tokens=_D)
    ),
    "parallel_streams": Planted(
        {"A": 1.35e8, "E": 1.38, "alpha": 0.224, "k": 0.345},
        grid(n=np.geomspace(1e8, 1e10, 10), streams=[1.0, 2, 4, 8]),
    ),
}
