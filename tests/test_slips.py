"""Slips of people who write their first TOML, and names that other programs have for a key: the line, and the remedy."""

import pytest

from testbed.config import load_config
from testbed.errors import ConfigError

HEAD = 'name = "x"\n[data]\nseq_len = 32\n'

SLIPS = {
    'source = "text:C:\\Users\\me\\corpus"': r"a backslash in double quotes .* single quotes, 'text:C:\\Users\\me\\corpus', or /",
    'source = "\\\\server\\share"': r"single quotes, '\\\\server\\share'",
    'source = "D:\\data"': r"single quotes, 'D:\\data', or / in place of each \\",
    "source = “synthetic:zipf”": r'typographic quotes; write plain ones: source = "synthetic:zipf"',
    "source = ‘synthetic:zipf’": "typographic quotes; write plain ones: source = 'synthetic:zipf'",
    "source = „synthetic:zipf“": 'typographic quotes; write plain ones: source = "synthetic:zipf"',
    "max_tokens = 10M": r'a number with a letter stands in quotes: "10M"',
    "max_tokens = [1e6, 2.5B]": r'a number with a letter stands in quotes: "2.5B"',
    "max_tokens = 1.2e18 FLOPs": r'stands in quotes: "1.2e18 FLOPs"',
    "lr = .003": "a number has digits on both sides of its point: 0.003",
    "lr = 3.": "digits on both sides of its point: 3.0",
    "lr = 0,003": "a comma separates the values of a list; write 0.003",
    "max_tokens = 1,000,000": "a comma separates the values of a list; write 1_000_000",
    "widths = 16, 32": r"a list stands in brackets: \[16, 32\]",
    "repeat = True": "write true",
    "clip = None": "TOML has no null; leave the key out",
    "lr: 0.003": "a key and its value have = between them: lr = 0.003",
    "lr = \u22120.1": "a minus sign that is no hyphen",
    "source = synthetic:zipf": 'a text stands in quotes: source = "synthetic:zipf"',
    'source = "synthetic:zipf': 'close the "',
}


@pytest.mark.parametrize("line", SLIPS)
def test_a_slip_is_shown_with_its_line_and_the_remedy(line, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(f"{HEAD}{line}\n[model]\ndepth = 1\n")
    with pytest.raises(ConfigError, match=SLIPS[line]) as caught:
        load_config(path)
    assert f"{path}: not valid TOML: line 4, {line}: " in str(caught.value)


def test_a_number_with_a_letter_inside_a_list_of_several_lines(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(f"{HEAD}tokens = [\n  1e6,\n  10M,\n]\n")
    with pytest.raises(ConfigError, match=r'line 6, 10M,: a number with a letter stands in quotes: "10M"'):
        load_config(path)


def test_another_mistake_shows_its_line(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(f"{HEAD}[model\n")
    with pytest.raises(ConfigError, match=r"Expected '\]' .*line 4.*, in \[model"):
        load_config(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('data.source="text:C:\\Users\\me"', "single quotes, 'text:C:\\\\Users\\\\me', or /"),
        ("grid.tokens=[10M]", 'a number with a letter stands in quotes: "10M"'),
        ("data.source=“synthetic:zipf”", "typographic quotes"),
    ],
)
def test_a_slip_in_an_override(override, message, tiny_toml):
    with pytest.raises(ConfigError, match="--set .*not valid TOML: .*" + message):
        load_config(tiny_toml, [override])


def test_a_path_whose_backslashes_are_escapes_is_refused(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('name = "x"\n[data]\nseq_len = 32\nsource = "text:C:\\temp\\new"\n')
    with pytest.raises(
        ConfigError, match=r"data\.source: .*control characters .*: write a path in single quotes, or with /"
    ):
        load_config(path)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.learning_rate", "lr"),
        ("train.max_grad_norm", "clip"),
        ("data.block_size", "seq_len"),
        ("train.batch_size", "batch_tokens"),
        ("train.grad_clip", "clip"),
        ("data.context_length", "seq_len"),
        ("model.n_layer", "depth"),
        ("model.block_size", "data.seq_len"),
        ("model.n_embd", "grid.widths"),
        ("learning_rate", "train.lr"),
        ("train.seq_len", "data.seq_len"),
        ("lr", "train.lr"),
        ("train.lrr", "lr"),
    ],
)
def test_the_names_of_other_programs_get_the_hint_of_ours(key, meant, tiny_toml):
    with pytest.raises(ConfigError, match=rf'{key}: unknown key; did you mean "{meant}"\?'):
        load_config(tiny_toml, [f"{key}=1"])
