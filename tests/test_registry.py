"""Components of an installed package: found by their entry points, planned, trained and fitted, with settings of their own."""

import numpy as np
import pandas as pd
import pytest

from testbed.analysis.fit import Fit, fit_law
from testbed.analysis.laws import LAWS, find_law
from testbed.config import load_config
from testbed.errors import ConfigError
from testbed.study import Study
from testbed.training.data import open_source
from testbed.training.executors import EXECUTORS
from testbed.training.models import find_family
from testbed.training.recipe import SCHEDULES
from tests.helpers.sweeps import Quiet

MODULE = """
import numpy as np
from pydantic import Field
from testbed.analysis.laws.law import AdditiveLaw, amplitude, constant, exponent
from testbed.config.strict import Table
from testbed.registry import settings_of
from testbed.training.data.synthetic import ZipfSource
from testbed.training.models.gpt import GPTFamily

class Chilly(AdditiveLaw):
    name = "chilly"
    parameters = (constant("E"), amplitude("A", {"n": "alpha"}), exponent("alpha", (0.1, 1.0)))
    columns = ("n",)
    formula = "L = E + A/N^a"
    source = "a package of tests"

class Shifted(ZipfSource):
    class Settings(Table):
        shift: int = Field(0, ge=0)

    def __init__(self, config):
        super().__init__(config)
        self.shift = settings_of(config, "shifted", self.Settings, "data").shift
        self.facts = self.facts.model_copy(update={"source": config.source, "fingerprint": f"shift {self.shift}"})

    def rows(self, data_seed, start, count):
        return (super().rows(data_seed, start, count) + self.shift) % self.facts.vocab_size

class Narrow(GPTFamily):
    class Settings(Table):
        depth: int = Field(1, ge=1)

    def shape(self, width, rule, vocab_size, seq_len):
        own = settings_of(rule, "narrow", self.Settings, "model")
        shape = super().shape(width, rule, vocab_size, seq_len)
        return shape.model_copy(update={"family": "narrow", "depth": own.depth})
"""
ENTRY_POINTS = """
[testbed.laws]
chilly = chilly_parts:Chilly
[testbed.sources]
shifted = chilly_parts:Shifted
[testbed.families]
narrow = chilly_parts:Narrow
[testbed.schedules]
broken = chilly_parts:Nothing
"""
STUDY = """
name = "chilly"
[data]
source = "shifted:anything"
seq_len = 32
val_windows = 64
[data.shifted]
shift = 3
[model]
family = "narrow"
depth = 2
head_size = 8
[model.narrow]
depth = 3
[train]
batch_tokens = 256
warmup_steps = 5
[grid]
widths = [8]
tokens = [10_240]
[forecast]
laws = ["chilly"]
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder of installed packages, with one that offers a law, a source and a family."""
    site = tmp_path / "site"
    (site / "chilly-1.0.dist-info").mkdir(parents=True)
    (site / "chilly-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: chilly\nVersion: 1.0\n")
    (site / "chilly-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "chilly_parts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def test_a_law_of_an_installed_package_is_fitted_and_saved(installed):
    assert "chilly" in LAWS and find_law("chilly") is LAWS["chilly"] and list(LAWS)[-1] == "chilly"
    n = np.geomspace(1e6, 1e9, 12)
    fit = fit_law("chilly", pd.DataFrame({"n": n, "loss": 2.0 + 50.0 * n**-0.3}), n_boot=0)
    assert fit.theta == pytest.approx({"E": 2.0, "A": 50.0, "alpha": 0.3}, rel=1e-5)
    document = fit.to_dict()
    assert document["law"] == "chilly" and Fit.from_dict(document).theta == fit.theta


@pytest.mark.slow
def test_a_source_and_a_family_of_an_installed_package_are_trained_with_their_settings(installed):
    config = load_config(installed)
    plain, shifted = (open_source(load_config(installed, more).data) for more in (["data.shifted.shift=0"], []))
    vocabulary = plain.facts.vocab_size
    np.testing.assert_array_equal(shifted.rows(1, 0, 4), (plain.rows(1, 0, 4) + 3) % vocabulary)
    assert find_family("narrow").shape(8, config.model, vocabulary, 32).depth == 3

    study = Study.create(config, installed.parent / "sweep")
    (run,) = study.grid
    assert (run.shape.family, run.shape.depth, run.data.fingerprint) == ("narrow", 3, "shift 3")
    study.train("grid", Quiet())
    assert study.points()["phase"].eq("annealed").any()


def test_settings_of_an_installed_component_are_checked(installed):
    with pytest.raises(ConfigError, match=r"data\.shifted\.shift: .*greater than or equal to 0"):
        open_source(load_config(installed, ["data.shifted.shift=-1"]).data)
    with pytest.raises(ConfigError, match=r"model\.narrow\.layers: .*; accepted: depth"):
        find_family("narrow").shape(8, load_config(installed, ["model.narrow.layers=1"]).model, 16, 32)


def test_unknown_names_list_those_of_installed_packages(installed):
    with pytest.raises(ConfigError, match=r"unknown law 'chily'; accepted: hoffmann, .*u_shape, chilly or \"package"):
        find_law("chily")
    with pytest.raises(ConfigError, match=r"data\.source: found 'web:x'; accepted: \"text:stdlib\", .*, shifted or"):
        open_source(load_config("quick", ["data.source=web:x"]).data)
    with pytest.raises(ConfigError, match=r"model\.family: found 'bert'; accepted: gpt, .*<model_type>\", narrow or"):
        find_family("bert")
    with pytest.raises(ConfigError, match=r"found 'broken' of the installed package chilly, which cannot be imported"):
        SCHEDULES.find("broken")


def test_own_names_are_those_of_the_classes():
    assert all(law.name == name for name, law in LAWS.items())
    assert list(EXECUTORS) == ["local", "slurm", "ray"]
    for name in ("text", "hf:", "text:", "synthetic:other"):
        with pytest.raises(ConfigError, match=r"data\.source: found .*; accepted: \"text:stdlib\""):
            open_source(load_config("quick", [f"data.source={name}"]).data)
