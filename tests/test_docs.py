"""Checks that README, guides and configurations are true: paths, commands, options, keys, public names."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

import testbed
from testbed.cli.app import app
from testbed.config import load_config
from testbed.config.builtin import builtin_configs
from testbed.config.loading import check_config
from testbed.training.sweep import plan

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "testbed").rglob("*.md")), *sorted((ROOT / ".github").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))


def blocks(page: Path, *languages: str) -> list[str]:
    fences = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for _, language, text in fences if language in languages]


def commands(page: Path) -> list[list[str]]:
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    shown = [line for block in blocks(page, "console", "") for line in block.splitlines()]
    lines += [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def of_pages(*languages: str) -> list[object]:
    return [
        pytest.param(page, block, id=f"{page.relative_to(ROOT)}-{index}")
        for page in PAGES
        for index, block in enumerate(blocks(page, *languages))
    ]


def test_the_readme_is_short_and_leads_to_every_guide():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 250
    assert {page.relative_to(ROOT).as_posix() for page in PAGES[1:]} <= set(re.findall(r"\]\(([^)#]+)\)", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_path_exists(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (page.parent / target).exists(), target
    for target in re.findall(r"(?<![\w/.])(?:scripts|configs|testbed|tests)/[\w./]*[\w/](?![\w*])", text):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_exists(page):
    known = typer.main.get_command(app).commands
    for words in commands(page):
        if words[0] == "testbed" and not words[1].startswith("-"):
            options = {name for parameter in known[words[1]].params for name in parameter.opts}
            assert {word for word in words[2:] if word.startswith("-")} <= options, words
        elif words[0] in ("bash", "python"):
            assert (ROOT / words[1]).exists(), words


def test_the_readme_shows_the_loop():
    found = [words[1] for words in commands(ROOT / "README.md") if words[0] == "testbed"]
    assert set(found) >= {"plan", "train", "predict", "validate", "report", "status", "fit", "frontier", "plot"}


@pytest.mark.parametrize(("page", "block"), of_pages("toml"))
@pytest.mark.slow
def test_every_piece_of_configuration_is_accepted(page, block, tiny_source):
    whole = tomllib.loads((ROOT / "configs" / "quick.toml").read_text(encoding="utf-8")) | tomllib.loads(block)
    config = check_config(whole, page.name)
    if "grid" in block:
        endless = tiny_source.facts.model_copy(update={"seq_len": config.data.seq_len})
        assert plan(config, lambda data: endless).grid


@pytest.mark.parametrize(("page", "block"), of_pages("python"))
def test_the_python_in_it_uses_public_names(page, block):
    compile(block, page.name, "exec")
    assert set(re.findall(r"testbed\.(\w+)", block)) <= set(testbed.__all__)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_loads_and_says_what_it_is_for(path):
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert all(any(line.startswith(f"# {word}") for line in head) for word in ("Purpose", "Cost", "Expect"))
    assert load_config(path).name == path.stem


def test_a_configuration_that_comes_with_testbed_is_found_by_its_name(tmp_path, monkeypatch):
    assert {path.stem for path in CONFIGS} == set(builtin_configs())
    monkeypatch.chdir(tmp_path)
    assert load_config("quick") == load_config(ROOT / "configs" / "quick.toml")
    (tmp_path / "quick").write_text('name = "mine"\n')
    with pytest.raises(testbed.errors.ConfigError, match="quick: "):
        load_config("quick")  # a file of this name comes first


@pytest.mark.slow
def test_the_api_pages_are_made_without_a_warning(tmp_path):
    script = ROOT / "scripts" / "api_pages.py"
    ended = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "fit_law" in (tmp_path / "testbed.html").read_text(encoding="utf-8")
