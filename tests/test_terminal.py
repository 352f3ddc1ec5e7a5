"""What commands print to terminals of several widths: every word and number whole on one line."""

from collections import Counter

import pytest

from testbed.analysis.report.study.tables import TextTable
from testbed.cli.app import app
from testbed.cli.table_layout import lay_out
from testbed.cli.word_wrap import wrap

from .conftest import TINY
from .helpers.finished import finish_by_law, sweep_of
from .helpers.terminals import printed

WIDTHS = (40, 80, 110)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished study, a second one, and a fit of the first one's points."""
    path = tmp_path_factory.mktemp("terminal")
    for name, change in (("study", {}), ("other", {"A": 33.0})):
        sweep, _ = sweep_of(TINY, path / name)
        finish_by_law(sweep, sweep.specs, **change)
    (path / "tiny.toml").write_text(TINY)
    for arguments in (
        ["points", "study"],
        ["fit", "study", "-o", "fit.json", "--bootstrap", "50"],
        ["predict", "study"],  # a later call says that the forecast was sealed before
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(path)
            app(arguments, standalone_mode=False)
    return path


COMMANDS = [
    ["laws"],
    ["laws", "muennighoff"],
    ["fit", "study/points.csv", "--bootstrap", "50"],
    ["compare", "study/points.csv", "--laws", "hoffmann,kaplan", "--params", "1e6", "--tokens", "1e8"],
    ["backtest", "study/points.csv", "--cuts", "3"],
    ["approaches", "study/points.csv", "--bootstrap", "20"],
    ["predict", "fit.json", "--params", "1e6", "--tokens", "1e9"],
    ["frontier", "fit.json", "--flops", "1e15", "--flops", "1e17"],
    ["solve", "fit.json", "--loss", "1.9", "--params", "1e5"],
    ["suggest", "study/points.csv", "--target", "1M,100M"],
    ["plan", "tiny.toml", "--no-calibrate"],
    ["predict", "study"],
    ["validate", "study"],
    ["status", "study"],
    ["pack", "other", "-o", "other.zip"],
    ["diff", "study", "other", "--bootstrap", "50"],
    ["fit", "a_table_that_is_not_there_and_has_a_long_name.csv"],
    ["fit", "study/points.csv", "--where", "n_params_non_embedding <"],
    ["predict", "study", "--params", "7B"],
    ["fitt"],
    ["fit"],
    [],
]


@pytest.fixture(scope="module")
def texts(folder):
    """By width, what each command prints; the widest is as if nothing had to be wrapped."""
    commands = [*COMMANDS, *([command.callback.__name__, "--help"] for command in app.registered_commands), ["--help"]]
    widths = (*WIDTHS, 5000)
    found = printed([(width, command) for width in widths for command in commands], folder)
    assert len(found) == len(widths) * len(commands), found[-1]
    return {width: found[k * len(commands) : (k + 1) * len(commands)] for k, width in enumerate(widths)}


def words(text):
    return Counter(text.replace(":", " ").split())


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_or_number_is_cut(texts, width):
    for shown, wide in zip(texts[width], texts[5000], strict=True):
        assert words(wide) - words(shown) == Counter(), shown


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_lines_are_no_wider_than_the_terminal_unless_one_word_is(texts, width):
    for shown in texts[width]:
        for line in shown.splitlines():
            assert len(line) <= width or len(line.split()) == 1, line


@pytest.mark.slow
def test_there_is_no_traceback(texts):
    assert not any("Traceback" in text for text in texts[5000])


@pytest.mark.slow
def test_prefixes_and_their_text_are_one_paragraph(texts):
    (warning,) = {text for text in texts[80] if "checkpoints-as-runs: " in text and "hoffmann  L" in text}
    start = warning.index("checkpoints-as-runs: ")
    first, second = warning[start:].splitlines()[:2]
    assert len(first) > 60
    assert second.startswith("  ")


def test_a_table_that_fits_is_left_as_it_is():
    assert lay_out(TextTable(("a", "bc"), (("1", "2"), ("333", ""))), 7) == ["a    bc", "1    2", "333"]


def test_a_table_too_wide_wraps_its_text_and_not_its_numbers():
    table = TextTable(("name", "what", "loss"), (("x", "a sentence that is longer than a number", "1.25 to 1.5"),))
    assert lay_out(table, 36) == [
        "name  what               loss",
        "x     a sentence that    1.25 to 1.5",
        "      is longer than a",
        "      number",
    ]


def test_a_table_of_many_numbers_is_folded_with_its_keys_repeated():
    table = TextTable(("role", "N", "tokens", "loss"), (("grid", "1.5M", "30M", "1.25"), ("", "", "60M", "")), keys=1)
    assert lay_out(table, 18) == [
        "role  N     tokens",
        "grid  1.5M  30M",
        "            60M",
        "",
        "role  loss",
        "grid  1.25",
    ]


def test_a_table_wider_than_any_fold_is_a_list():
    table = TextTable(("run", "state"), (("w0064-i1000-d65536064", "done"), ("w0064-i1001-d65601600", "")))
    assert lay_out(table, 24) == [
        "run:",
        "  w0064-i1000-d65536064",
        "state: done",
        "",
        "run:",
        "  w0064-i1001-d65601600",
    ]


def test_a_word_longer_than_the_line_stays_whole():
    assert wrap("see /a/very/long/path/to.csv now", 10, "  ") == ["see", "  /a/very/long/path/to.csv", "  now"]


def test_a_file_gets_whole_lines(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "40")
    app(["fit", "study/points.csv", "--bootstrap", "50"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("checkpoints-as-runs: ") and line.endswith(".") for line in lines)
    assert any(len(line) > 100 for line in lines)
