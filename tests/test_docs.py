"""What the README and the configurations say is true: paths, commands, options, keys, names."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

import testbed
from testbed.cli.app import app
from testbed.config import load_config
from testbed.config.loading import check_config
from testbed.training.sweep import plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    lines += [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines() if line[:2] == "$ "]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def test_every_link_and_script_is_there():
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if not target.startswith("http")]
    assert targets
    for target in targets + re.findall(r"(?:scripts|configs|testbed)/[\w./]+\w", README):
        assert (ROOT / target).exists(), target


def test_every_command_is_one():
    known = typer.main.get_command(app).commands
    found = [words for words in commands() if words[0] == "testbed"]
    assert len(found) >= 8
    for words in found:
        options = {name for parameter in known[words[1]].params for name in parameter.opts}
        assert {word for word in words[2:] if word.startswith("-")} <= options, words
    assert all((ROOT / words[1]).exists() for words in commands() if words[0] == "bash")


@pytest.mark.parametrize("block", blocks("toml"))
def test_every_piece_of_configuration_is_accepted(block, tiny_source):
    whole = tomllib.loads((ROOT / "configs" / "quick.toml").read_text(encoding="utf-8")) | tomllib.loads(block)
    config = check_config(whole, "README.md")
    if "grid" in block:
        endless = tiny_source.facts.model_copy(update={"seq_len": config.data.seq_len})
        assert plan(config, endless).target


def test_the_python_in_it_uses_public_names():
    for block in blocks("python"):
        compile(block, "README.md", "exec")
        assert set(re.findall(r"testbed\.(\w+)", block)) <= set(testbed.__all__)
    assert blocks("python")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_loads_and_says_what_it_is_for(path):
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert all(any(line.startswith(f"# {word}") for line in head) for word in ("Purpose", "Cost", "Expect"))
    assert load_config(path).name == path.stem
