"""Every configuration survives writing and reading: what `to_toml` writes is read back as an equal one."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from testbed.config import Config, check_config, load_config, read_config
from testbed.errors import ConfigError, TestbedError
from testbed.study import Study

FLOATS = st.floats(1e-12, 1e6, allow_nan=False)
TEXTS = st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"), max_size=20).filter(
    lambda text: not any(0x7F <= ord(c) < 0xA0 for c in text)
)
COUNTS = st.integers(10**4, 10**30) | st.sampled_from(["10M", "1.2e18", 2e6])


def lists(values):
    return st.lists(values, min_size=1, max_size=3, unique=True)


def tables(required, **optional):
    return st.fixed_dictionaries(required, optional=optional)


TREES = tables(
    {
        "name": st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,20}\Z").map(lambda name: f"s{name}"),
        "data": tables(
            {"source": TEXTS.map(lambda text: f"text:{text}"), "seq_len": st.just(32)},
            max_tokens=COUNTS,
            val_windows=st.integers(8, 999),
            repeat=st.booleans(),
            unique_tokens=COUNTS,
        ),
        "model": tables(
            {"head_size": st.just(8), "depth": st.integers(1, 9), "family": st.just("hf:llama")},
            options=st.dictionaries(TEXTS, st.booleans() | st.integers() | FLOATS | TEXTS, max_size=3),
        ),
        "train": tables(
            {},
            batch_tokens=st.just("auto") | st.integers(1, 10**9).map(lambda n: 32 * n),
            lr=FLOATS,
            warmup_steps=st.integers(0, 10**9),
            cooldown=st.floats(0.01, 0.99),
            betas=st.lists(st.floats(0, 0.999), min_size=2, max_size=2),
            clip=st.sampled_from([0, 0.0, "none", None, float("inf")]) | FLOATS,
            weight_decay=st.floats(0, 9),
            pack=st.sampled_from(["auto", "none", 7]),
            micro_rows=st.just("auto") | st.integers(1, 99),
            recompute=st.sampled_from(["auto", True, False]),
            compile=st.sampled_from(["auto", True, False]),
            retry_lr=st.none() | st.floats(0.01, 0.99),
            parts=lists(st.sampled_from(["prune", "average"])),
        ),
        "grid": tables(
            {"widths": lists(st.integers(1, 99).map(lambda k: 8 * k)), "tokens": lists(st.integers(10**4, 10**12))},
            init_seeds=lists(st.integers(0, 2**32 - 1)),
            data_seeds=st.just("own") | lists(st.integers(0, 99)),
            vary=tables(
                {},
                train=tables({}, lr=lists(FLOATS), clip=st.sampled_from([[0, 1.0], ["none", 0.5], [0.1]])),
                data=tables({}, repeat=st.just([True, False])),
            ),
        ),
    },
    target=tables(
        {"width": st.integers(1, 99).map(lambda k: 8 * k), "tokens": COUNTS},
        data_seeds=st.none() | st.just("own"),
        processes=st.none(),
    ),
    forecast=tables({}, laws=lists(st.sampled_from(["hoffmann", "kaplan"])), level=st.floats(0.51, 0.99), delta=FLOATS),
    execution=tables(
        {},
        workers=st.none() | st.integers(1, 99),
        checkpoint_seconds=FLOATS,
        slurm=tables({}, time=st.sampled_from(["4h", 600, "1 h 30 m"]), memory=st.sampled_from(["16G", 10**9])),
    ),
    budget=tables({"flops": COUNTS}, device_minutes=FLOATS),
    tracker=tables({"kind": st.sampled_from(["wandb", ["wandb", "tensorboard"]])}, entity=TEXTS),
)


@settings(max_examples=120, deadline=None)
@given(TREES)
@pytest.mark.slow
def test_what_is_written_is_read_back_equal(tree):
    config = Config.model_validate(tree)
    again = check_config(tomllib.loads(config.to_toml()), "the test")
    assert again == config
    assert again.hash() == config.hash()
    assert again.cells() == config.cells()


@pytest.mark.parametrize("off", ["0", "0.0", '"none"', "inf"])
def test_clipping_is_switched_off_in_a_file(off, tiny_toml, tmp_path):
    study = Study.create(load_config(tiny_toml, [f"train.clip={off}", "train.pack=2"]), tmp_path / "a")
    assert {spec.clip for spec in study.grid} == {None}
    again = Study.open(tmp_path / "a")
    assert again.folder.config.train.clip == 0
    assert [spec.run_id for spec in again.grid] == [spec.run_id for spec in study.grid]


def test_clipping_is_switched_off_in_python(tiny_config, tmp_path):
    tree = tiny_config.model_dump(exclude_none=True)
    validated = Config.model_validate(tree | {"train": tree["train"] | {"clip": None, "pack": 2}})
    copied = validated.model_copy(update={"train": validated.train.model_copy(update={"clip": None})})
    for name, config in (("a", validated), ("b", copied)):
        study = Study.create(config, tmp_path / name)
        assert {spec.clip for spec in study.grid} == {None}
        assert Study.open(tmp_path / name).folder.config.hash() == config.hash()


def test_clipping_may_be_an_axis(tiny_toml, tmp_path):
    study = Study.create(load_config(tiny_toml, ["grid.vary.train.clip=[0, 1.0]", "train.pack=2"]), tmp_path / "a")
    assert {(spec.clip, spec.cell["train.clip"]) for spec in study.grid} == {(None, 0.0), (1.0, 1.0)}


@pytest.mark.parametrize("wrong", ["-1.0", "true", '"off"', "nan"])
def test_what_is_no_norm_is_refused_with_the_way_to_switch_it_off(wrong, tiny_toml):
    with pytest.raises(ConfigError, match=r'largest norm of the gradient; 0 or "none" for no clipping'):
        load_config(tiny_toml, [f"train.clip={wrong}"])


def test_no_field_takes_a_none_that_cannot_be_written(tiny_config):
    """TOML has no null: a field whose default is something else must not take None, or must write it as something else."""

    def walk(table, path):
        for name, field in type(table).model_fields.items():
            value = getattr(table, name)
            if hasattr(type(value), "model_fields"):
                yield from walk(value, (*path, name))
            elif field.default is not None and not field.is_required():
                yield (*path, name)

    tree = tiny_config.model_dump(exclude_none=True)
    for *above, name in walk(tiny_config, ()):
        changed = {**tree}
        at = changed
        for part in above:
            at[part] = {**at[part]}
            at = at[part]
        at[name] = None
        try:
            config = Config.model_validate(changed)
        except (ValidationError, TestbedError):
            continue
        assert read_back(config) == config, (*above, name)


def read_back(config):
    return check_config(tomllib.loads(config.to_toml()), "the test")


def test_the_builtin_configurations_are_read_back(tmp_path):
    from testbed.config.builtin import builtin_configs

    for path in builtin_configs().values():
        config = read_config(path)
        assert read_back(config) == config
