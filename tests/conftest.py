"""Small studies that the tests share; prepared tokens go to a folder of the test run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from testbed.analysis.forecast import Circumstances, fit_laws, make_forecast
from testbed.analysis.laws import LAWS
from testbed.config import Config, load_config
from testbed.config import Forecast as Settings
from testbed.records import Forecast, RunSpec, TargetFacts
from testbed.training.data import TokenSource, open_source
from testbed.training.executors import LocalExecutor
from testbed.training.sweep import packs, plan
from tests.sweeps import LONG, Quiet, fresh, table

TINY = """
name = "tiny"

[data]
source = "synthetic:zipf"
seq_len = 32
val_windows = 64

[model]
depth = 2
head_size = 8

[train]
batch_tokens = 256
warmup_steps = 5
trunk_evals = 2
pack = 2

[grid]
widths = [8, 16, 24]
tokens = [10_240, 20_480, 40_960]
init_seeds = [0, 1]

[target]
width = 32
tokens = 81_920
init_seeds = [7, 8]

[forecast]
bootstrap = 100
"""


SLOWLY = """
import os, time
from pathlib import Path
from testbed.training.data.synthetic import ZipfSource
class Slow(ZipfSource):
    def rows(self, *arguments):
        pause = Path(os.environ["SLOW"])
        time.sleep(float(pause.read_text()) if pause.exists() else 0)
        return super().rows(*arguments)
"""


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and their children
    os.environ["TESTBED_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny_config(tiny_toml: Path) -> Config:
    return load_config(tiny_toml)


@pytest.fixture(scope="session")
def tiny_source(tiny_config: Config) -> TokenSource:
    return open_source(tiny_config.data)


@pytest.fixture(scope="session")
def tiny_spec(tiny_config: Config, tiny_source: TokenSource) -> RunSpec:
    return plan(tiny_config, tiny_source.facts).grid[0]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file: as long as it is there, each block of SLOW's data takes the seconds it names, and no core is busy."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "slow").mkdir()
    (folder / "slow" / "source.py").write_text(SLOWLY)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("TESTBED_ALLOW_CODE", "slow.source")
        patch.setenv("SLOW", str(folder / "pause"))
        yield folder / "pause"


@pytest.fixture(scope="session")
def long_undisturbed(tiny_toml: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The points of the longer sweep, trained in one go on two workers."""
    sweep = fresh(tiny_toml, tmp_path_factory.mktemp("long") / "sweep", *LONG)
    LocalExecutor("cpu", 2).run(sweep, packs(sweep.of_role("grid")), Quiet())
    return table(sweep)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real text of some 3 MB in a few hundred small files: part of the standard library."""
    import sysconfig

    folder = tmp_path_factory.mktemp("text")
    root = Path(sysconfig.get_paths()["stdlib"])
    for index, path in enumerate(sorted(root.glob("*.py"))):
        content = path.read_bytes()
        try:
            content.decode()
        except UnicodeDecodeError:
            continue
        (folder / f"{index:04d}.txt").write_bytes(content)
    return folder


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


@pytest.fixture(scope="session")
def sealed_forecast() -> Forecast:
    return planted_forecast(planted_points("hoffmann", noise=0.005))
