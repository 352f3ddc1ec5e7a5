"""Any key of the configuration as an axis of the grid: cells, their runs and their columns in the points table."""

import math

import numpy as np
import pytest
from safetensors.torch import load_file

from testbed import Study
from testbed.config import load_config
from testbed.errors import ConfigError
from testbed.records import Component, Horizon
from testbed.study import settle
from testbed.training.data import open_source
from testbed.training.recipe import part_of, schedule_of
from tests.helpers.sweeps import Quiet

pytestmark = pytest.mark.usefixtures("warm")

HORIZON = Horizon(tokens=25_600, steps=100, branch_step=0)
SMALL = """
name = "axes"
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
[grid]
widths = [8]
tokens = [10_240, 20_480]
"""


@pytest.fixture
def small(tmp_path):
    (tmp_path / "axes.toml").write_text(SMALL)
    return tmp_path / "axes.toml"


def test_a_cell_is_a_configuration_in_which_nothing_varies(tiny_toml):
    config = load_config(tiny_toml, ["grid.vary.train.lr=[0.003, 0.006]", "grid.vary.data.unique_tokens=[4096, 8192]"])
    cells = config.cells()
    assert len(cells) == 4
    assert {cell["train.lr"] for cell in cells} == {0.003, 0.006}
    one = config.at(cells[0])
    assert (one.train.lr, one.data.unique_tokens, one.grid.vary) == (0.003, 4096, {})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grid.vary.train.lr=0.003", r"grid\.vary\.train\.lr: found 0\.003; accepted: a list of different values"),
        ("grid.vary.train.lr=[0.003, 0.003]", r"grid\.vary\.train\.lr: .* a list of different values"),
        ("grid.vary.train.lr=[-1.0]", r"found -1\.0, should be greater than 0"),
        ("grid.vary.train.lrr=[1.0]", r"train: found 1\.0"),
    ],
)
def test_a_value_that_its_key_refuses_is_refused_as_an_axis(tiny_toml, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(tiny_toml, [override])


def test_an_axis_at_the_usual_value_gives_the_run_that_a_plain_grid_has(small):
    (_, plain), (_, varied) = (settle(load_config(small, more)) for more in ([], ["grid.vary.train.lr=[0.004, 0.006]"]))
    assert load_config(small).train.lr == 0.006
    assert {run.run_id for run in plain.grid} < {run.run_id for run in varied.grid}
    assert len(varied.grid) == 2 * len(plain.grid)


@pytest.mark.slow
def test_every_value_of_an_axis_is_a_column_of_the_points(small, tmp_path):
    overrides = ["grid.vary.data.unique_tokens=[2048, 16384]", "data.repeat=true"]
    study = Study.create(load_config(small, overrides), tmp_path / "sweep")
    study.train("grid", Quiet())
    points = study.points()
    annealed = points[(points["phase"] == "annealed") & (points["tokens"] == 20_480)].set_index("unique_tokens")
    assert set(annealed.index) == {2048, 16384}
    assert annealed.loc[2048, "loss"] != annealed.loc[16384, "loss"]


def test_repeated_data_are_the_same_windows_in_a_new_order_each_epoch(tiny_config):
    source = open_source(tiny_config.data.model_copy(update={"unique_tokens": 64 * 32}))
    assert source.facts.train_tokens == 64 * 32
    first, second = source.rows(5, 0, 64), source.rows(5, 64, 64)
    assert not np.array_equal(first, second)
    as_sets = [{window.tobytes() for window in rows} for rows in (first, second, source.rows(6, 0, 64))]
    assert as_sets[0] == as_sets[1] == as_sets[2]


def test_the_cosine_falls_from_the_peak_to_its_floor():
    cosine = schedule_of(Component(name="cosine", settings={"floor": 0.1}))
    factors = [cosine.factor(step, 10, HORIZON) for step in range(100)]
    assert factors[0] == pytest.approx(0.1, rel=0.02)
    assert max(factors) == pytest.approx(1.0, rel=1e-3)
    assert factors[-1] == pytest.approx(0.1)
    middle = 10 + (100 - 10) // 2 - 1
    assert factors[middle] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)), rel=1e-6)


def test_pruning_zeroes_its_share_of_the_hidden_matrices_at_the_end(small, tmp_path):
    prune = part_of(Component(name="prune", settings={"final": 0.8}))
    shares = [prune.share(step, HORIZON) for step in range(101)]
    assert (shares[0], shares[-1]) == (0, pytest.approx(0.8))
    assert sorted(shares) == shares
    overrides = ['train.parts=["prune"]', "train.prune.final=0.8"]
    study = Study.create(load_config(small, overrides), tmp_path / "sweep")
    study.train("grid", Quiet())
    (longest,) = [run for run in study.folder.of_role("grid") if run.horizons[-1].tokens == 20_480]
    weights = load_file(study.folder.run(longest).path / "weights.safetensors")
    zeros = [
        float((weight == 0).float().mean()) for name, weight in weights.items() if "blocks" in name and weight.ndim == 2
    ]
    assert zeros
    assert zeros == pytest.approx([0.8] * len(zeros), abs=0.01)
    assert set(study.points()["sparsity"]) == {0.8}
