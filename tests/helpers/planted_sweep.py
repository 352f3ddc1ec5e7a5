"""Points tables of sweeps that follow a known law, and forecasts from them."""

import numpy as np
import pandas as pd

from testbed.analysis.forecast import Circumstances, fit_laws, make_forecast
from testbed.analysis.laws import LAWS
from testbed.config import ForecastSettings as Settings
from testbed.records import Forecast, TargetFacts

TRUTH = {
    "hoffmann": {"A": 30.0, "B": 900.0, "E": 1.2, "alpha": 0.35, "beta": 0.45},
    "kaplan": {"A": 480.0, "B": 1e6, "E": 0.9, "a": 0.6, "b": 0.3},
}


def planted_points(law: str, noise: float = 0.0, seeds: int = 3, seed: int = 0) -> pd.DataFrame:
    """A points table that follows a law: 5 sizes x 4 horizons x seeds, and a target of 2 seeds; noise is relative."""
    rng = np.random.default_rng(seed)
    truth = {name: np.array([[value]]) for name, value in TRUTH[law].items()}
    rows = []
    cells = [("grid", n, (3e5, 1e6, 3e6, 1e7), seeds) for n in (3e3, 1e4, 3e4, 1e5, 3e5)] + [("target", 1e6, (3e7,), 2)]
    for role, n, horizons, count in cells:
        for init in range(count):
            shared = rng.normal() * noise
            for tokens in horizons:
                columns = {"n": np.array([n]), "tokens": np.array([tokens])}
                loss = float(LAWS[law].value(truth, columns)[0, 0]) * np.exp(0.9 * shared + 0.4 * noise * rng.normal())
                rows.append(
                    {
                        "run": f"{role}-{n:.0f}-{init}",
                        "role": role,
                        "n_params_non_embedding": n,
                        "n_params_total": 1.5 * n,
                        "tokens": tokens,
                        "flops": 6.5 * n * tokens,
                        "loss": loss,
                        "phase": "annealed",
                    }
                )
    return pd.DataFrame(rows)


def target_facts(points: pd.DataFrame) -> TargetFacts:
    rows = points[points["role"] == "target"]
    first = rows.iloc[0]
    return TargetFacts(
        runs=tuple(rows["run"]),
        width=64,
        n_params_non_embedding=int(first["n_params_non_embedding"]),
        n_params_total=int(first["n_params_total"]),
        tokens=int(first["tokens"]),
        flops=int(first["flops"]),
    )


def planted_forecast(points: pd.DataFrame, after_the_fact: bool = False, **settings: object) -> Forecast:
    chosen = Settings(**({"bootstrap": 100} | settings))
    circumstances = Circumstances("planted", "c" * 64, "2026-01-01T00:00:00+00:00", after_the_fact, {"testbed": "0"})
    fits = fit_laws(points, chosen, "planted")
    return make_forecast(points, fits, target_facts(points), chosen, circumstances)


def clean(points):
    grid = points[points["role"] == "grid"]
    return pd.DataFrame(
        {"n": grid["n_params_non_embedding"], "tokens": grid["tokens"], "loss": grid["loss"], "run": grid["run"]}
    ).reset_index(drop=True)
