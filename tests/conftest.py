"""Small studies that the tests share, and the environment of every test and of the processes that it starts."""

# ruff: noqa: E402  # the environment is set before torch is imported

from __future__ import annotations

import gc
import os
import signal
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ["OMP_NUM_THREADS"] = "1"  # results do not depend on the machine's cores, and tests run side by side
os.environ["HF_HUB_OFFLINE"] = "1"
# Processes that tests start import this checkout's package, whichever one is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
pytest.register_assert_rewrite("tests.helpers")

import pandas as pd
import torch

from testbed.config import Config, load_config
from testbed.records import Forecast, RunSpec
from testbed.training.data import TokenSource, open_source
from testbed.training.executors import LocalExecutor
from testbed.training.sweep import packs, plan
from tests.helpers import warm_python
from tests.helpers.planted_sweep import planted_forecast, planted_points
from tests.helpers.sweeps import LONG, SLOWLY, TINY, Quiet, fresh, table


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and their children
    os.environ["TESTBED_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _warm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with warm_python.server(tmp_path_factory.mktemp("warm")) as script:
        yield script


@pytest.fixture(scope="module")
def warm(_warm_server: Path) -> Iterator[Path]:
    """Processes that this module starts by `sys.executable` have imported torch before they start."""
    with warm_python.used(_warm_server):
        yield _warm_server


@pytest.fixture(scope="module")
def old_objects_kept() -> Iterator[None]:
    """Collecting garbage, which each measurement does, passes over what the libraries made when they were imported."""
    import torch._inductor  # noqa: F401  # training imports it

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


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
def long_undisturbed(tiny_toml: Path, tmp_path_factory: pytest.TempPathFactory, _warm_server: Path) -> pd.DataFrame:
    """The points of the longer sweep, trained in one go on two workers."""
    sweep = fresh(tiny_toml, tmp_path_factory.mktemp("long") / "sweep", *LONG)
    with warm_python.used(_warm_server):
        LocalExecutor("cpu", 2).run(sweep, packs(sweep.of_role("grid")), Quiet())
    return table(sweep)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real text of some 3 MB in a few hundred small files: part of the standard library."""
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


@pytest.fixture(scope="session")
def sealed_forecast() -> Forecast:
    return planted_forecast(planted_points("hoffmann", noise=0.005))
