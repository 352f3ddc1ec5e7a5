"""Tables of learning-rate brackets and of coordinate checks whose answer is known."""

import math

import numpy as np
import pandas as pd

FACTORS = (0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.8)
CORNERS = ((16, 320_000), (16, 1_280_000), (48, 320_000), (48, 1_280_000))


PLACES = [("grid", w, d) for w in (16, 24, 48) for d in (320_000, 640_000, 1_280_000)] + [("target", 64, 3_200_000)]


def brackets(optimum, curvature=0.03, skew=0.0, noise=0.0, tilt=0.0, seeds=2, factors=FACTORS, rng=None):
    """Losses about optima in log multiples, given as a function of width and tokens; `tilt` moves each seed's own."""
    rng = rng or np.random.default_rng(0)
    rows = []
    for width, tokens in CORNERS:
        for seed in range(seeds):
            own, level = tilt * rng.normal(), 0.02 * rng.normal()
            for factor in factors:
                away = math.log(factor) - optimum(width, tokens) - own
                rise = curvature * away**2 + skew * away**3
                rows.append(
                    {
                        "width": width, "n_params_non_embedding": 12 * width**2, "tokens": tokens, "batch_tokens": 512,
                        "factor": factor, "init_seed": seed, "data_seed": seed,
                        "loss": 2.0 * math.exp(rise + level + noise * rng.normal()),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def coordinate_table(powers, noise=0.0, seeds=3):
    rng = np.random.default_rng(0)
    rows = []
    for width in (16, 32, 64):
        for seed in range(seeds):
            for kind, power in powers.items():
                scatter = math.exp(noise * rng.normal())
                rows.append({"width": width, "init_seed": seed, "step": 0, "kind": kind, "size": 1.0, "change": 0.0})
                change = 0.1 * width**power * scatter
                rows.append({"width": width, "init_seed": seed, "step": 5, "kind": kind, "size": 1.0, "change": change})
    return pd.DataFrame(rows)
