import tomllib
from pathlib import Path

import pytest

from testbed.config import check_config, differences, load_config, read_config
from testbed.errors import ConfigError


def test_defaults_spelt_out_read_back_to_the_same_configuration(tiny_config):
    assert check_config(tomllib.loads(tiny_config.to_toml()), "x") == tiny_config
    assert check_config(tomllib.loads(tiny_config.to_toml()), "x").hash() == tiny_config.hash()


def test_the_hash_is_of_what_decides_a_result(tiny_toml, tiny_config):
    assert load_config(tiny_toml, ["execution.workers=3"]).hash() == tiny_config.hash()
    assert load_config(tiny_toml, ["train.lr=0.005"]).hash() != tiny_config.hash()


def test_overrides(tiny_toml):
    config = load_config(tiny_toml, ["train.lr=0.01", "name=other", 'grid.tokens=["1M", 2e6]', "data.seq_len = 64"])
    assert (config.train.lr, config.name, config.grid.tokens, config.data.seq_len) == (
        0.01,
        "other",
        (10**6, 2 * 10**6),
        64,
    )


MISTAKES = {
    "train.lrr=1": 'train.lrr: unknown key; did you mean "lr"? (accepted here: base_width, batch_tokens, ',
    "modle.depth=3": 'modle: unknown key; did you mean "model"? (accepted here: budget, data, ',
    "train.lr=fast": "train.lr: found 'fast', should be a valid number; accepted: peak learning rate",
    "train.lr=-1.0": "train.lr: found -1.0, should be greater than 0; accepted: peak learning rate",
    "train.lr=nan": "train.lr: found nan, should be a finite number",
    "train.lr=true": "train.lr: found True, should be a valid number",
    "grid.widths=[8, -16]": "grid.widths[1]: found -16, should be greater than or equal to 1; accepted: widths",
    "grid.widths=[8, 8]": "grid.widths: found [8, 8], a list with at least one value, each only once",
    "grid.widths=[]": "grid.widths: found [], a list with at least one value, each only once",
    "grid.widths=[8, 12]": "width 12 is not a multiple of model.head_size (8)",
    'grid.tokens=["many"]': "grid.tokens[0]: found 'many', a count is a number or a text such as",
    "grid.flops=[1e9]": "grid: give either tokens (N x D) or flops (IsoFLOP)",
    "grid=3": "grid: found 3, should be a table; accepted: the runs that are fitted",
    "train.batch_tokens=100": "train.batch_tokens (100) is a whole number of windows: a multiple of data.seq_len (32)",
    "train.batch_tokens=lots": "train.batch_tokens: found 'lots', a count is a number or a text",
    "data.tokenizer=bpe": 'data: vocab_size is given with tokenizer = "bpe", and only with it',
    "data.tokenizer=words": "data.tokenizer: found 'words', should be 'bytes' or 'bpe'",
    "data.hf.split=train": 'data: the table [data.hf] belongs to a source "hf:NAME"',
    "data.zipf.mass=[1.0]": "data.zipf: successors and mass need one entry for each order",
    "model.width_per_layer=16": "model: give either depth or width_per_layer",
    "model.head_size=7": "model: head_size is even",
    "train.cooldown=1.0": "train.cooldown: found 1.0, should be less than 1",
    "train.precision=fp8": "train.precision: found 'fp8', should be 'fp32', 'tf32' or 'bf16'",
    "forecast.level=2.0": "forecast.level: found 2.0, should be less than 1",
    "name=../../etc": "name: found '../../etc', should match pattern",
    "grid.init_seeds=[0, -1]": "grid.init_seeds[1]: found -1, should be greater than or equal to 0",
    "data.hf.trust_remote_code=true": "data.hf.trust_remote_code: found True, should be False",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_every_mistake_names_file_key_found_and_accepted(tiny_toml, override):
    with pytest.raises(ConfigError) as caught:
        load_config(tiny_toml, [override])
    assert str(caught.value).startswith(f"{tiny_toml}: {MISTAKES[override]}")


def test_all_mistakes_are_told_at_once(tiny_toml):
    with pytest.raises(ConfigError) as caught:
        load_config(tiny_toml, ["train.lr=fast", "grid.widht=3", "data.seq_len=1"])
    assert len(str(caught.value).splitlines()) == 3


def test_a_missing_key_is_told_with_what_to_give(tiny_toml):
    with pytest.raises(ConfigError, match=r"target\.tokens: missing; give horizon of the target"):
        load_config(tiny_toml, ["target={width=32}"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = ", "not valid TOML"),
        (b"name = '\xff'", "not UTF-8 at byte 8"),
        (b"", "name: missing; give name of the study"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, content, message):
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_no_such_file_and_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


@pytest.mark.parametrize("override", ["train.lr", "=3", "train..lr=3", "train.lr.x=3"])
def test_overrides_that_are_none(tiny_toml, override):
    with pytest.raises(ConfigError, match=r"--set|train\.lr"):
        load_config(tiny_toml, [override])


def test_differences_are_dotted():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}, "d": 4}) == ["a.b: 1 -> 3", "d: None -> 4"]


def test_the_recipe_of_ones_own_configuration_may_be_imported(tiny_toml):
    config = read_config(tiny_toml, ['train.schedule="some.module:Schedule"', 'train.parts=["other.module:Part"]'])
    assert config.code() == ("some.module:Schedule", "other.module:Part")


def test_a_study_lives_in_runs_by_its_name(tiny_config):
    assert tiny_config.home == Path("runs/tiny")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["train.prun.final=0.7", 'train.parts=["prune"]'],
            r'train\.prun: unknown table; did you mean "prune"\? \(.*prune, wsd',
        ),
        (["train.prune.final=0.7"], r"train\.prune: unknown table \(components in use here: wsd\); take it away"),
        (["data.mixture.share=0.7"], r"data\.mixture: unknown table"),
    ],
)
def test_a_table_of_a_component_that_is_not_used_is_refused(tiny_toml, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(tiny_toml, overrides)


def test_tables_of_components_that_a_cell_uses_are_read(tiny_toml):
    more = ["train.prune.final=0.7", 'grid.vary.train.parts=[[], ["prune"]]']
    assert load_config(tiny_toml, more).train.model_extra == {"prune": {"final": 0.7}}
    assert load_config(tiny_toml, ['data.source="some.module:Mine"', "data.mine.x=1"]).data.model_extra
