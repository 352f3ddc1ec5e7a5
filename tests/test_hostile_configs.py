"""Configurations of any bytes, values and overrides: accepted as they are written, or one message; never a crash."""

from __future__ import annotations

import math
import tomllib

import pytest
import tomli_w
from hypothesis import strategies as st
from pydantic import BaseModel

from testbed.config import Config, Data, check_config, load_config
from testbed.config.loading import _table_of
from testbed.errors import ConfigError, DataError, TestbedError
from testbed.registry import CONSENT
from testbed.training.data import open_source
from testbed.training.sweep import plan
from tests.helpers.hostile import limited_command, mutated, refusal, result_or_none, snapshot, try_each
from tests.helpers.sweeps import TINY


def keys(table: type[BaseModel] = Config, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key that a configuration has."""
    found = []
    for name, field in table.model_fields.items():
        inner = _table_of(field.annotation)
        found += [(*prefix, name), *(keys(inner, (*prefix, name)) if inner else [])]
    return found


numbers = st.one_of(
    st.integers(0, 100),
    st.floats(0.001, 1.0),
    st.integers(-(10**400), 10**400),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**30, 10**400, -(10**400)]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([math.inf, -math.inf, math.nan, 1e308, 5e-324, -0.0]),
)
anything = st.characters(exclude_categories=["Cs"])
TEXTS = (
    *(
        "../x",
        "/etc/passwd",
        "a/b",
        "a.",
        "nul",
        "aux.txt",
        "auto",
        "none",
        "1e18",
        "7B",
        "1e999",
        "text:",
        "hf:",
        "hf:../..",
    ),
    *(
        "os:system",
        "builtins:exec",
        ":",
        "::",
        ".a:b",
        "a..b:c",
        "hf:gpt2",
        "$(id)",
        "`id`",
        "<script>",
        "\u202egnp",
        "\ufeffa",
    ),
)
texts = st.one_of(
    st.text(anything, max_size=40),
    st.sampled_from([*TEXTS, "", "a\0b", "a\nb", "text:\0", "x" * 5000, "9" * 400]),
)
times = st.one_of(st.datetimes(), st.dates(), st.times())
values = st.recursive(
    st.one_of(numbers, texts, st.booleans(), times),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=3),
    ),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def _own_consent(monkeypatch):
    """What one test's configurations name is forgotten after it."""
    monkeypatch.setenv(CONSENT, "")


def read(tmp_path, content, overrides=()):
    """Read the file, and plan what was accepted: both have one message for what they refuse."""
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    config = result_or_none(lambda: load_config(path, overrides), path, "--set")
    if config is not None:
        assert check_config(tomllib.loads(config.to_toml()), "again") == config
        assert config.name not in ("", ".", "..")
        assert (tmp_path / config.name).resolve().parent == tmp_path.resolve()
    return config


def settle(config, facts):
    """Plan the configuration, if it was accepted."""
    if config is not None and len(config.grid.widths) * len(config.grid.init_seeds) <= 100:
        try:
            plan(config, facts)
        except TestbedError as error:
            assert len(str(error)) < 8000
    return config


def test_mutated_configurations(tmp_path):
    ends = try_each(lambda content: read(tmp_path, content), mutated(TINY.encode()))
    assert ends["accepted"]
    assert ends["refused"]


def test_any_value_at_every_key(tmp_path, tiny_source):
    def with_value(key, value):
        tree = tomllib.loads(TINY)
        table = tree
        for part in key[:-1]:
            table = table.setdefault(part, {})
        table[key[-1]] = value
        return settle(read(tmp_path, tomli_w.dumps(tree).encode()), tiny_source.facts)

    ends = try_each(with_value, st.sampled_from(keys()), values)
    assert ends["accepted"]
    assert ends["refused"]


def test_any_override(tmp_path, tiny_source):
    keys_and_others = st.one_of(st.sampled_from([".".join(key) for key in keys()]), st.text(max_size=20))
    overrides = st.one_of(
        st.text(max_size=60), values.map(str), st.sampled_from(["[" * 3000, "{a=" * 3000, "1\n[train]\nlr=9", "'"])
    )

    def overridden(key, value):
        return settle(read(tmp_path, TINY.encode(), [f"{key}={value}"]), tiny_source.facts)

    ends = try_each(overridden, keys_and_others, overrides, examples=[("train.lr", "0.01")])
    assert ends["accepted"]
    assert ends["refused"]


SIZES = {
    "deep lists": ("x = " + "[" * 100_000 + "]" * 100_000, "nested too deep"),
    "deep tables": ("x = " + "{a=" * 50_000 + "1" + "}" * 50_000, "nested too deep"),
    "a key of many parts": (".".join("a" * 100_000) + " = 1", "more than 200 dots"),
    "a text of 10 MB": (TINY.replace('"tiny"', f'"{"a" * 10_000_000}"'), "longer than"),
    "a key of 500 kB": ("a" * 500_000 + " = 1\n" + TINY, "unknown key"),
    "20,000 unknown keys": (TINY + "".join(f"\nk{i} = 1" for i in range(20_000)), "and 19980 more"),
    "a grid of 10^9 runs": (
        TINY.replace("[0, 1]", str(list(range(60_000)))).replace("[8, 16, 24]", str(list(range(8, 60_000, 8)))),
        "at most 100000",
    ),
    "an integer of 5,000 digits": (TINY.replace("10_240", "1" + "0" * 5000), "not valid TOML"),
    "a hexadecimal of 8,000 digits": (TINY.replace("10_240", "0x" + "f" * 8000), "an enormous number"),
    "a byte order mark twice": ("\ufeff\ufeff" + TINY, "not valid TOML"),
    "UTF-16": (TINY.encode("utf-16"), "not UTF-8"),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.slow
def test_sizes_that_no_configuration_has_end_soon_and_in_little_memory(name, tmp_path):
    content, message = SIZES[name]
    path = tmp_path / "c.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 8000


def test_a_byte_order_mark_is_read_over(tmp_path, tiny_config):
    assert read(tmp_path, b"\xef\xbb\xbf" + TINY.encode()) == tiny_config


NAMES = (
    "../x",
    "..",
    "/x",
    "a/b",
    "a\\\\b",
    "nul",
    "COM1.txt",
    "a.",
    "a\\u0000",
    "\\u202ea",
    "ａ",
    "a" * 65,
    "-rf",
    ".git",
)


@pytest.fixture
def tmp_path(tmp_path):
    """A folder in one of the test's own: what lies beside it is watched."""
    path = tmp_path / "inside"
    path.mkdir()
    return path


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leaves_its_folder(name, tmp_path):
    before = snapshot(tmp_path.parent)
    path = tmp_path / "c.toml"
    path.write_text(TINY.replace('"tiny"', f'"{name}"'))
    with pytest.raises(ConfigError, match=r"name: found .* a name that|should match pattern|at most 64"):
        load_config(path)
    path.unlink()
    assert snapshot(tmp_path.parent).keys() == before.keys()


SAMPLE = {
    "nested too deep": "x = " + "[" * 20_000,
    "found '../../x'": TINY.replace('"tiny"', '"../../x"'),
    "an enormous number": TINY.replace("10_240", "1" + "0" * 400),
}


@pytest.mark.parametrize("message", SAMPLE)
def test_the_command_line_tells_it_in_one_message_and_writes_nothing(message, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    path = work / "c.toml"
    path.write_text(SAMPLE[message])
    before = snapshot(tmp_path)
    assert message in refusal(limited_command("plan", path, cwd=work, memory=4 << 30))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "x" * 4000, "a/" * 2000, "/dev/null/x"])
def test_names_that_no_text_can_have(name):
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(Data(source=f"text:{name}", seq_len=32))
